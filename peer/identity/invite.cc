#include "peer/identity/invite.h"

#include <fmt/format.h>

#include <charconv>

#include "peer/base/hash.h"
#include "peer/identity/limits.h"
#include "peer/identity/prefix.h"

namespace efs {

namespace {
constexpr uint8_t kInviteFormat = 1;
constexpr size_t kInviteHeader = 5;  // format, CRC-32C
constexpr std::string_view kScheme = "efs://";
constexpr std::string_view kNewInvite = "make a new one there with 'efs-keys invite'";

// The invite as it is encoded; secrets stand in plain bytes only here, and are wiped.
struct PlainInvite {
  std::vector<std::string> addresses;
  Id mesh{};
  Id mesh_secret{};
  Id seed{};
  Envelope certificate;
  ~PlainInvite() {
    wipe(mesh_secret);
    wipe(seed);
  }
  static constexpr auto fields() {
    return std::tuple{field("a", &PlainInvite::addresses), field("m", &PlainInvite::mesh),
                      field("s", &PlainInvite::mesh_secret), field("i", &PlainInvite::seed),
                      field("c", &PlainInvite::certificate)};
  }
};

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

Result<Bytes> unwrap(std::string_view text) {
  if (text.empty()) return fail(Code::invalid_argument, fmt::format("the invite is empty; {}", kNewInvite));
  if (text.size() > kMaxInviteBytes * 4 / 3)
    return fail(Code::too_large, "this is no invite: it is far too long");
  auto bytes = from_base64(text);
  if (!bytes || bytes->size() <= kInviteHeader)
    return fail(Code::invalid_argument,
                "this is no invite: it is cut off, or has characters that no invite has; copy it whole");
  if ((*bytes)[0] != kInviteFormat)
    return fail(Code::version, fmt::format("the invite has format {}, and this program knows format {}: "
                                           "install the same efs here as there",
                                           (*bytes)[0], kInviteFormat));
  if (get_le<uint32_t>(bytes->data() + 1) != crc32c(ByteView(*bytes).subspan(kInviteHeader)))
    return fail(Code::invalid_argument,
                "the invite is damaged: a character is missing or wrong; copy it whole");
  return std::move(*bytes);
}

Status check_invite(const Invite& invite) {
  EFS_TRY(check_addresses(invite.addresses));
  EFS_ASSIGN(auto certificate, read_certificate(invite.certificate.body));
  if (certificate.invite != invite.key.public_key() ||
      !is_authentic(kCertificateDomain, invite.mesh, invite.certificate))
    return fail(Code::unauthorized,
                fmt::format("the invite's certificate does not belong to its key and mesh; {}", kNewInvite));
  return {};
}
}  // namespace

std::string_view name_of(Role role) {
  return role == Role::server ? "server" : role == Role::client ? "client" : "unknown role";
}

Result<UidRange> parse_uid_range(std::string_view text) {
  if (text == "all") return UidRange::all();
  UidRange range;
  const char* end = text.data() + text.size();
  auto [next, error] = std::from_chars(text.data(), end, range.first);
  bool good = error == std::errc();
  range.last = range.first;
  if (good && next != end && *next == '-') {
    auto second = std::from_chars(next + 1, end, range.last);
    good = second.ec == std::errc();
    next = second.ptr;
  }
  if (good && next == end && range.first <= range.last) return range;
  return fail(Code::invalid_argument, fmt::format("'{}' is no range of uids: say A-B, or all", text));
}

std::string to_text(const UidRange& range) {
  if (range.first > range.last) return "none";
  if (range.first == 0 && range.last == UINT32_MAX) return "all";
  return fmt::format("{}-{}", range.first, range.last);
}

std::string under_text(const Rights& rights) {
  std::string out;
  for (const std::string& prefix : rights.under) out += (out.empty() ? "" : ", ") + prefix;
  return out.empty() ? "nothing" : out;
}

Status check_rights(Role role, const Rights& rights) {
  if (role != Role::server && role != Role::client)
    return fail(Code::version, "a role that this program does not know; install a newer efs");
  const bool speaks = rights.uids.first <= rights.uids.last;
  if (role == Role::client && (rights.operate || speaks || !rights.under.empty()))
    return fail(Code::invalid_argument,
                "a client acts for logged-in users only: it cannot operate the mesh, "
                "speak for uids or own volumes");
  if (rights.under.size() > kMaxUnderPrefixes)
    return fail(Code::too_large, fmt::format("more than {} prefixes in one admission", kMaxUnderPrefixes));
  for (const std::string& prefix : rights.under) EFS_TRY(check_prefix(prefix));
  return {};
}

Status check_addresses(const std::vector<std::string>& addresses) {
  if (addresses.size() > kMaxAddresses)
    return fail(Code::too_large, fmt::format("more than {} addresses of one peer", kMaxAddresses));
  for (const std::string& address : addresses) {
    if (address.empty() || address.size() > kMaxAddressBytes || address.find('/') != std::string::npos)
      return fail(Code::invalid_argument, fmt::format("'{}' is no address", address.substr(0, 64)));
  }
  return {};
}

Result<Certificate> read_certificate(ByteView body) {
  EFS_ASSIGN(auto certificate,
             decode<Certificate>(body, {.bytes = kMaxInviteBytes, .elements = 64, .depth = kMaxDepth}));
  if (certificate.format != 1)
    return fail(Code::version,
                "the invite's certificate has a format that this program does not know; "
                "install the same efs here as there");
  EFS_TRY(check_rights(certificate.role, certificate.rights));
  if (certificate.uses == 0 || certificate.uses > kMaxInviteUses)
    return fail(Code::invalid_argument, fmt::format("an invite has 1 to {} uses", kMaxInviteUses));
  return certificate;
}

Result<Invite> make_invite(std::vector<std::string> addresses, const Id& mesh, const Secret& mesh_secret,
                           Certificate certificate, const KeyPair& administrator, Random& random) {
  if (addresses.empty()) return fail(Code::invalid_argument, "an invite needs an address to join at");
  EFS_TRY(check_addresses(addresses));
  KeyPair key = KeyPair::generate(random);
  certificate.invite = key.public_key();
  Bytes body = encode(certificate);
  EFS_TRY(read_certificate(body));
  return Invite{std::move(addresses), mesh, mesh_secret.clone(), std::move(key),
                seal(kCertificateDomain, mesh, std::move(body), administrator)};
}

std::string to_text(const Invite& invite) {
  PlainInvite plain;
  plain.addresses = invite.addresses;
  plain.mesh = invite.mesh;
  plain.certificate = invite.certificate;
  std::copy_n(invite.mesh_secret.reveal().begin(), plain.mesh_secret.size(), plain.mesh_secret.begin());
  std::copy_n(invite.key.seed().reveal().begin(), plain.seed.size(), plain.seed.begin());
  Bytes out(kInviteHeader);
  out.reserve(1024);  // so that growing leaves no copy behind
  encode_to(out, plain);
  out[0] = kInviteFormat;
  put_le(out.data() + 1, crc32c(ByteView(out).subspan(kInviteHeader)));
  std::string text = to_base64(out);
  wipe(out);
  return text;
}

std::string to_seed(const Invite& invite) {
  return fmt::format("{}{}/{}", kScheme, invite.addresses.empty() ? "" : invite.addresses[0],
                     to_text(invite));
}

Result<Invite> parse_invite(std::string_view text) {
  text = trim(text);
  if (text.starts_with(kScheme)) {
    const size_t slash = text.find('/', kScheme.size());
    if (slash == std::string_view::npos)
      return fail(Code::invalid_argument,
                  "the seed has no invite behind its address: efs://HOST:PORT/INVITE");
    text.remove_prefix(slash + 1);
  }
  EFS_ASSIGN(Bytes bytes, unwrap(text));
  auto plain = decode<PlainInvite>(ByteView(bytes).subspan(kInviteHeader),
                                   {.bytes = kMaxInviteBytes, .elements = 64, .depth = kMaxDepth});
  wipe(bytes);
  if (!plain) return fail(plain.error().code, fmt::format("this is no invite: {}", to_text(plain.error())));
  Invite invite{plain->addresses, plain->mesh, Secret::copy_of(plain->mesh_secret),
                KeyPair::from_seed(Secret::copy_of(plain->seed)), plain->certificate};
  EFS_TRY(check_invite(invite));
  return invite;
}

Result<Seed> parse_seed(std::string_view text) {
  text = trim(text);
  Seed seed;
  if (text.starts_with(kScheme)) {
    EFS_ASSIGN(seed.invite, parse_invite(text));
    text.remove_prefix(kScheme.size());
    text = text.substr(0, text.find('/'));
  }
  seed.address = text;
  if (text.empty() || check_addresses({seed.address}).has_value() == false)
    return fail(Code::invalid_argument,
                fmt::format("'{}' is no seed: say efs://HOST:PORT/INVITE, or HOST:PORT with --invite",
                            text.substr(0, 64)));
  return seed;
}

SignedJoin make_join(const Invite& invite, std::string name, std::vector<std::string> addresses,
                     int64_t wall_ns, const KeyPair& peer) {
  JoinRequest request;
  request.mesh = invite.mesh;
  request.key = peer.public_key();
  request.name = std::move(name);
  request.addresses = std::move(addresses);
  request.wall_ns = wall_ns;
  request.certificate = invite.certificate;
  SignedJoin join;
  join.body = encode(request);
  join.by_invite = sign_in_mesh(kJoinDomain, invite.mesh, join.body, invite.key);
  join.by_peer = sign_in_mesh(kJoinDomain, invite.mesh, join.body, peer);
  return join;
}

Result<CheckedJoin> read_join(const SignedJoin& join, const Id& mesh, bool trusted) {
  CheckedJoin out;
  EFS_ASSIGN(out.request, decode<JoinRequest>(join.body, {.bytes = kMaxInviteBytes + kMaxAddresses * 300,
                                                          .elements = 64,
                                                          .depth = kMaxDepth}));
  if (out.request.format != 1)
    return fail(Code::version,
                "the request to join has a format that this peer does not know; install the "
                "same efs there as here");
  if (out.request.mesh != mesh)
    return fail(Code::unauthorized, fmt::format("the invite is for another mesh ({}), not for this one ({})",
                                                short_hex(out.request.mesh), short_hex(mesh)));
  EFS_TRY(check_addresses(out.request.addresses));
  EFS_ASSIGN(out.certificate, read_certificate(out.request.certificate.body));
  if (trusted) return out;
  if (!is_authentic(kCertificateDomain, mesh, out.request.certificate))
    return fail(Code::unauthorized, fmt::format("the invite's certificate is forged; {}", kNewInvite));
  if (!verify_in_mesh(out.certificate.invite, kJoinDomain, mesh, join.body, join.by_invite))
    return fail(Code::unauthorized, "the request to join is not signed with the invite's key");
  if (!verify_in_mesh(out.request.key, kJoinDomain, mesh, join.body, join.by_peer))
    return fail(Code::unauthorized, "the request to join is not signed with the joining peer's key");
  return out;
}

}  // namespace efs
