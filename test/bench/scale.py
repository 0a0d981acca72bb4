"""What growth costs: operations, memory and start of a peer at more and more files (test/bench/compare --scale).

The files are of 4 KiB each, a million a directory, made through the owner's mount, and on the disk's own filesystem
beside it. At each size, on a peer that was just started: creates in a new directory, stat and read of files chosen at
random, the listing of one directory of (at most) a million; at the owner, elsewhere and on ext4. Cold: nothing is in
memory, so that the more files there are, the more of them have a page of the disk to themselves. Forgotten: only
names and inodes are dropped, pages of the disk stay. Memory is private memory, RssAnon + RssShmem.
"""
import json
import os
import time

from systems import FSLOAD, NAMES, command, drop_caches

SIZES = [10_000, 100_000, 1_000_000, 5_000_000]
QUICK_SIZES = [100, 400]
MILLION = 1_000_000
PLACES = ["owner", "elsewhere", "ext4"]
SETTLE_S = 5  # after a start, before memory is looked at

# (what, unit, goal): costs are held to the first size's, the others to themselves.
GROWTH = 1.5
COSTS = ["create_us", "stat_forgotten_us", "stat_us", "read_us", "list_us"]
LIMITS = {"idle_mib": 64, "replayed_mib": 64, "visited_mib": 256, "start_s": 2.0, "restart_s": 2.0, "list_first_ms": 20, "list_all_s": 3.0}
LABELS = {"create_us": "create, us", "stat_forgotten_us": "stat, forgotten, us", "stat_us": "stat, cold, us", "read_us": "small read, cold, us",
          "list_us": "list, cold, us an entry", "list_first_ms": "list: first entries after, ms",
          "list_all_s": "list: all of at most 1,000,000 after, s", "idle_mib": "memory, started after a stop, MiB",
          "replayed_mib": "memory, started after a kill, MiB",
          "visited_mib": "memory, at most 1,000,000 visited, MiB", "start_s": "start after a stop, s",
          "restart_s": "start after a kill, s", "fill_per_s": "filled at, files/s", "disk_mib": "data directory, MiB"}


def private_mib(pid):
    found = 0
    with open(f"/proc/{pid}/status") as lines:
        for line in lines:
            if line.startswith(("RssAnon:", "RssShmem:")):
                found += int(line.split()[1])
    return found / 1024


class Scale:
    def __init__(self, bench, quick, say):
        self.bench, self.say = bench, say
        self.sizes = QUICK_SIZES if quick else SIZES
        self.operations = 50 if quick else 5000
        self.patience_s = 60 if quick else 7200
        self.mesh = bench.efs_mesh()
        self.owner, self.other = self.mesh.peers
        self.beside = os.path.join(bench.base, "beside")
        os.mkdir(self.beside)
        self.made = 0
        self.fresh = 0
        self.found = {}  # (where, what) -> {size: value}

    def load(self, *words):
        return json.loads(command(FSLOAD, *words, timeout=self.patience_s).strip().splitlines()[-1])

    def note(self, size, where, **values):
        for what, value in values.items():
            self.found.setdefault((where, what), {})[size] = value
        self.say(f"{size:,} {where}: " + " ".join(f"{what} {value:.4g}" for what, value in values.items()))

    def fill(self, size):
        for where, directory in (("owner", self.owner.path("owner")), ("ext4", self.beside)):
            done = self.load("create_more", directory, self.made, size)
            self.note(size, where, fill_per_s=done["count"] / done["seconds"])
        self.made = size
        used = int(command("du", "-sk", self.owner.data, timeout=self.patience_s).split()[0]) / 1024
        self.note(size, "owner", disk_mib=used)

    def start(self, size):
        """Both peers stopped and started, then the owner once more after a kill."""
        self.other.stop(60)
        self.owner.stop(60)
        start_s = self.timed(self.owner.run)
        other_s = self.timed(self.other.run)
        time.sleep(SETTLE_S)
        self.note(size, "elsewhere", start_s=other_s, idle_mib=private_mib(self.other.pid))
        idle_mib = private_mib(self.owner.pid)
        self.owner.kill()
        restart_s = self.timed(self.owner.run)
        time.sleep(SETTLE_S)
        self.note(size, "owner", start_s=start_s, idle_mib=idle_mib, restart_s=restart_s,
                  replayed_mib=private_mib(self.owner.pid))

    @staticmethod
    def timed(action):
        start = time.monotonic()
        action()
        return time.monotonic() - start

    def operate(self, size, where, directory):
        self.fresh += 1
        fresh = os.path.join(directory, f"fresh{self.fresh}")
        os.mkdir(fresh)
        create = self.load("create", fresh, self.operations, 1)
        drop_caches()
        stat = self.load("stat_some", directory, size, self.operations)
        drop_caches(NAMES)
        forgotten = self.load("stat_some", directory, size, self.operations)
        drop_caches()
        read = self.load("read_some", directory, size, self.operations)
        drop_caches()
        listed = self.load("list", os.path.join(directory, "p0"))
        each = lambda result: result["seconds"] / result["count"] * 1e6
        self.note(size, where, create_us=each(create), stat_forgotten_us=each(forgotten), stat_us=each(stat),
                  read_us=each(read), list_us=each(listed), list_first_ms=listed["bytes"] / 1e6,
                  list_all_s=listed["seconds"])

    def visit(self, size, where, peer):
        self.load("stat", peer.path("owner"), min(size, MILLION))
        self.note(size, where, visited_mib=private_mib(peer.pid))

    def run(self):
        places = (("owner", self.owner), ("elsewhere", self.other))
        for size in self.sizes:
            self.fill(size)
            self.start(size)
            for where, peer in places:
                self.operate(size, where, peer.path("owner"))
            self.operate(size, "ext4", self.beside)
            for where, peer in places:
                self.visit(size, where, peer)
        return self.found


def missed(found, where, what, sizes):
    values = found[where, what]
    first, last = values.get(sizes[0]), values.get(sizes[-1])
    if where != "ext4" and what in COSTS and first and last and last / first > GROWTH:
        return f"grows {last / first:.2f} > {GROWTH}"
    if what in LIMITS and where == "owner" and max(values.values()) > LIMITS[what]:
        return f"{max(values.values()):.3g} > {LIMITS[what]}"
    return ""


def table(found, sizes):
    lines = [["", ""] + [f"{size:,}" for size in sizes] + ["missed"]]
    for (where, what), values in sorted(found.items(), key=lambda one: (PLACES.index(one[0][0]), list(LABELS).index(one[0][1]))):
        shown = [f"{values[size]:,.4g}" if size in values else "-" for size in sizes]
        lines.append([where, LABELS[what]] + shown + [missed(found, where, what, sizes)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(" ".join(cell.ljust(width) if i in (0, 1, len(line) - 1) else cell.rjust(width)
                              for i, (cell, width) in enumerate(zip(line, widths))).rstrip() for line in lines)


def as_json(found, sizes, about):
    return {**about, "sizes": sizes,
            "scale": [{"where": where, "what": what, "label": LABELS[what], "values": values,
                       "missed": missed(found, where, what, sizes)} for (where, what), values in found.items()]}
