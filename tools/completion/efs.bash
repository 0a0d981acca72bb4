# bash completion for efs, efs-keys and efs-peer. Installed under all three names.

# Paths of the tree, asked from the peer with the caller's rights. Names with spaces are quoted.
_efs_tree_paths() {
  local current=$1 directory base entry
  directory=${current%"${current##*/}"}
  base=${current##*/}
  local hidden=()
  [[ $base == .* ]] && hidden=(-a)
  compopt -o nospace 2>/dev/null
  while IFS= read -r entry; do
    [[ $entry == "$base"* ]] || continue
    printf -v entry '%q' "$directory$entry"
    [[ $entry == */ ]] || entry+=' '
    COMPREPLY+=("$entry")
  done < <(efs "${_efs_peer[@]}" ls -p -1 "${hidden[@]}" "${directory:-/}" 2>/dev/null)
}

_efs_words() {
  mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current")
}

_efs_options() {
  mapfile -t COMPREPLY < <("${words[@]:0:1}" "$@" --help 2>/dev/null | grep -oE -- '(^| |,)--?[A-Za-z0-9][A-Za-z-]*' |
    tr -d ' ,' | sort -u | grep -F -- "$current" | compgen -W "$(cat)" -- "$current")
}

_efs() {
  local current previous words cword command='' sub='' i arguments=0
  COMPREPLY=()
  words=("${COMP_WORDS[@]}")
  cword=$COMP_CWORD
  current=${words[cword]}
  previous=${words[cword - 1]}
  _efs_peer=()
  for ((i = 1; i < cword; i++)); do
    case ${words[i]} in
      --socket | --data) _efs_peer+=("${words[i]}" "${words[i + 1]:-}"); ((i++)) ;;
      -*) ;;
      *) if [[ -z $command ]]; then command=${words[i]}; else
           ((arguments++)) || sub=${words[i]}
         fi ;;
    esac
  done
  case $previous in
    --socket | --data | --key | --passphrase-file | --out | --store | --mount | --config | --keys)
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
      return ;;
  esac
  case ${words[0]##*/} in
    efs-keys) _efs_keys_command ;;
    efs-peer) _efs_peer_command ;;
    *) _efs_command ;;
  esac
}

_efs_local_files() {
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -f -- "$current")
}

_efs_command() {
  if [[ -z $command && $current != -* ]]; then
    _efs_words 'status where mount umount volume peer store ls tree stat du find cat put get cp mkdir rm mv chmod chown ln touch'
    return
  fi
  if [[ $current == -* ]]; then
    case $command in
      volume | peer | store) _efs_options "$command" $sub ;;
      *) _efs_options $command ;;
    esac
    return
  fi
  case $command in
    volume) if [[ -z $sub ]]; then _efs_words 'create ls show set rm'; else _efs_tree_paths "$current"; fi ;;
    peer) [[ -z $sub ]] && _efs_words 'ls show rm' ;;
    store) if [[ -z $sub ]]; then _efs_words 'ls add rm'; else _efs_local_files; fi ;;
    mount | umount) _efs_local_files ;;
    put) if ((arguments == 0)); then _efs_local_files; else _efs_tree_paths "$current"; fi ;;
    get) if ((arguments == 0)); then _efs_tree_paths "$current"; else _efs_local_files; fi ;;
    status) ;;
    *) _efs_tree_paths "$current" ;;
  esac
}

_efs_keys_command() {
  if [[ -z $command && $current != -* ]]; then
    _efs_words 'invite user group grant revoke grants admin peer mesh login logout whoami audit'
    return
  fi
  if [[ $current == -* ]]; then
    _efs_options $command $sub
    return
  fi
  case $command in
    user) [[ -z $sub ]] && _efs_words 'add ls show rm rotate groups' ;;
    group) [[ -z $sub ]] && _efs_words 'add ls show rm' ;;
    admin) [[ -z $sub ]] && _efs_words 'add ls rm' ;;
    peer) [[ -z $sub ]] && _efs_words 'ls revoke' ;;
    mesh) [[ -z $sub ]] && _efs_words 'rotate-root rotate-secret' ;;
    grant) case $arguments in 1) _efs_words 'ro rw admin' ;; 2) _efs_tree_paths "$current" ;; esac ;;
    revoke) ((arguments == 1)) && _efs_tree_paths "$current" ;;
    grants) _efs_tree_paths "$current" ;;
  esac
}

_efs_peer_command() {
  if [[ -z $command && $current != -* ]]; then
    _efs_words 'init join run check leave'
  elif [[ $current == -* ]]; then
    _efs_options $command
  else
    _efs_local_files
  fi
}

complete -F _efs efs efs-keys efs-peer
