#!/usr/bin/env python3
"""docs/access.md against the sources: prints what is missing, too much or different, one line each.

What peers may ask: the handlers registered with Rpc::handle, with their Access. What of a volume: the requests of
peer/volume/request.h. What programs may send: the kinds and kCommands of peer/control/protocol.h.
"""
import glob
import re


def read(path):
    with open(path) as file:
        return file.read()


def rows(title):
    """The table under a heading of docs/access.md: first cell -> the other cells."""
    part = read("docs/access.md").split(f"## {title}\n", 1)[1].split("\n## ")[0]
    table = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in part.split("\n") if line.startswith("| `")]
    return {row[0]: row[1:] for row in table}


def numbers():
    """Name -> number of every kind: enumerators and constants of the headers."""
    found = {}
    for path in set(glob.glob("peer/**/*.h", recursive=True)) - {"peer/control/protocol.h"}:
        for name, number in re.findall(r"\b(k[A-Z]\w*) = (\d+)[,;]", read(path)):
            found[name] = number
    return found


def compare(what, documented, real):
    for name in sorted(set(documented) | set(real)):
        if documented.get(name) != real.get(name):
            print(f"docs/access.md: {what}: {name}: it says {documented.get(name)}, the source {real.get(name)}")


def main():
    named = numbers()
    wire = read("peer/net/wire.h")
    named.update({"kDhtRequest": named.get("kDhtRequest") or re.search(r"kDhtKinds = (\d+)", wire).group(1),
                  "kVolumeCall": re.search(r"kVolumeKinds = (\d+)", wire).group(1)})
    first = int(named["kVolumeCall"])
    for name, more in re.findall(r"\b(kVolume\w+) =\s+kVolumeKinds \+ (\d+);", read("peer/volume/service.h")):
        named[name] = str(first + int(more))
    handlers = {}
    for path in glob.glob("peer/**/*.cc", recursive=True):
        for name, access in re.findall(r"\bhandle\(\s*(k\w+),\s*Access::(\w+)", read(path)):
            handlers.setdefault(name, set()).add(access)
    compare("Between peers", {name: tuple(cells[:2]) for name, cells in rows("Between peers").items()},
            {name: (named.get(name), "/".join(sorted(access))) for name, access in handlers.items()})

    bodies = dict(re.findall(r"^struct (\w+) \{[^\n]*\n  static constexpr uint16_t kKind = (\d+);", read("peer/volume/request.h"), re.M))
    compare("Requests to a volume", {name: cells[0] for name, cells in rows("Requests to a volume").items()}, bodies)
    refused = set(re.findall(r"holds_alternative<(\w+)>\(body\)", read("peer/control_server.cc").split("Status check_for_programs")[1].split("\n}\n")[0]))
    compare("programs", {name: cells[2] == "no" for name, cells in rows("Requests to a volume").items()},
            {name: name in refused for name in bodies})

    protocol = read("peer/control/protocol.h")
    kinds = dict(re.findall(r"^  (k\w+) = (\d+),", protocol, re.M))
    compare("The control socket", {name: cells[0] for name, cells in rows("The control socket").items()}, kinds)
    commands = dict(re.findall(r'\{"([\w.]+)", Who::(\w+),', protocol))
    documented = {name: cells[0] for name, cells in rows("Commands").items()}
    compare("Commands", documented, {name: {"anyone": "anyone", "operator_": "operator"}[who] for name, who in commands.items()})


main()
