"""What test/bench/compare measures: rows, in groups that share their files.

A group runs on one system after the other (A B C, A B C, ...), each time in a fresh directory there. `cold` empties
caches before the next load (System.cold); `warm` is the same load directly again.
"""
import collections
import io
import json
import os
import random
import statistics
import subprocess
import tarfile
import time

from systems import FSLOAD, Failed, command

# kind: meta | data | cached (the kernel's cache serves it: once leases let it). goal: at the owner, times the mirror.
# flushes: the row fsyncs, so its disk flushes are counted.
Row = collections.namedtuple("Row", "key label unit kind goal flushes", defaults=[False])
ROWS = [
    Row("write", "write, fsync (1 MiB)", "MiB/s", "data", 0.9, True),
    Row("read_cold", "read, cold (1 MiB)", "MiB/s", "data", 0.9),
    Row("read_warm", "read, warm (1 MiB)", "MiB/s", "cached", 0.9),
    Row("random_read", "random read, cold (4 KiB)", "/s", "data", 0.9),
    Row("random_write", "random write (4 KiB)", "/s", "data", 0.9, True),
    Row("append_fsync", "append, fsync (4 KiB)", "/s", "data", 0.9, True),
    Row("create", "create (4 KiB)", "/s", "meta", 1.2),
    Row("create_four", "create, 4 processes", "/s", "meta", 1.2),
    Row("stat_cold", "stat, cold", "/s", "meta", 0.9),
    Row("stat_warm", "stat, warm", "/s", "cached", 0.9),
    Row("small_read_cold", "small read, cold", "/s", "meta", 0.9),
    Row("small_read_warm", "small read, warm", "/s", "cached", 2.0),
    Row("rename", "rename", "/s", "meta", 0.9),
    Row("unlink", "unlink", "/s", "meta", 0.9),
    Row("mkdir", "mkdir", "/s", "meta", 0.9),
    Row("rmdir", "rmdir", "/s", "meta", 0.9),
    Row("ls_f_cold", "ls -f, cold", "s", "meta", 0.9),
    Row("ls_f_warm", "ls -f, warm", "s", "cached", 0.9),
    Row("ls_l_cold", "ls -l, cold", "s", "meta", 0.9),
    Row("ls_l_warm", "ls -l, warm", "s", "cached", 0.9),
    Row("untar", "untar", "s", "meta", 1.3),
    Row("du", "du, after untar", "s", "meta", 0.9),
    Row("du_cold", "du, cold", "s", "meta", 0.9),
    Row("rm_rf", "rm -rf", "s", "meta", 1.3),
    Row("git_clone", "git clone", "s", "meta", 1.3),
    Row("git_status_cold", "git status, cold", "s", "meta", 0.9),
    Row("git_status_warm", "git status, warm", "s", "cached", 0.9),
    Row("sqlite", "SQLite, synchronous=FULL", "/s", "data", 0.9, True),
]
BY_KEY = {row.key: row for row in ROWS}

Sizes = collections.namedtuple(
    "Sizes", "file_bytes random_ops appends files files_four directories listed tree_files transactions settle_s timeout_s")
FULL = Sizes(256 << 20, 4000, 1000, 5000, 8000, 5000, 15000, 7500, 300, 1.0, 600)
QUICK = Sizes(4 << 20, 50, 10, 40, 40, 40, 60, 30, 5, 0.0, 60)

SQLITE = """
import json, sqlite3, sys, time
base = sqlite3.connect(sys.argv[1], isolation_level=None)
base.execute("PRAGMA synchronous=FULL")
base.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT)")
count = int(sys.argv[2])
start = time.monotonic()
for i in range(count):
    base.execute("BEGIN")
    base.execute("INSERT INTO t VALUES (?, ?)", (i, "x" * 100))
    base.execute("COMMIT")
seconds = time.monotonic() - start
base.close()
print(json.dumps({"seconds": seconds, "count": count, "bytes": 0}))
"""
GIT_ENVIRONMENT = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null",
                   "GIT_AUTHOR_NAME": "bench", "GIT_AUTHOR_EMAIL": "bench@example.org", "GIT_COMMITTER_NAME": "bench",
                   "GIT_COMMITTER_EMAIL": "bench@example.org", "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
                   "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}


class Sources:
    """A source tree, made up but the same every time: as a tar and as a git repository beside the systems."""

    def __init__(self, base, count):
        self.base, self.count = os.path.join(base, "sources"), count
        self.tar = os.path.join(self.base, "tree.tar")
        self.repository = os.path.join(self.base, "tree.git")
        os.makedirs(self.base)
        self._pack()

    def files(self):
        """(name, content): some twelve a directory, three levels; sizes as in a tree of C (median 3 KiB, mean 6)."""
        choose = random.Random(7500)
        words = ["".join(choose.choices("abcdefghijklmnopqrstuvwxyz_", k=choose.randint(2, 11))) for _ in range(4000)]
        lines = [("  " * choose.randint(0, 4) + " ".join(choose.choices(words, k=choose.randint(1, 9))) + ";\n").encode()
                 for _ in range(20000)]
        for number in range(self.count):
            group = number // 12
            size = min(int(choose.lognormvariate(8.0, 1.2)), 400_000)
            content = b"".join(choose.choices(lines, k=max(1, size // 40)))
            yield f"tree/{group % 23:02d}/{group % 7}/{group}/file{number}.c", content

    def _pack(self):
        made = set()
        with tarfile.open(self.tar, "w") as tar:
            for name, content in self.files():
                parts = name.split("/")
                for depth in range(1, len(parts)):
                    parent = "/".join(parts[:depth])
                    if parent not in made:
                        made.add(parent)
                        entry = tarfile.TarInfo(parent)
                        entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, 1_700_000_000
                        tar.addfile(entry)
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode, entry.mtime = len(content), 0o644, 1_700_000_000
                tar.addfile(entry, io.BytesIO(content))

    def make_repository(self):
        if os.path.exists(self.repository):
            return
        work = os.path.join(self.base, "work")
        os.makedirs(work)
        command("tar", "-xf", self.tar, "-C", work)
        for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "all of it"],
                      ["clone", "-q", "--bare", work, self.repository]):
            command("git", *words, cwd=work, env=GIT_ENVIRONMENT)
        command("rm", "-rf", work)


class Disk:
    """Counts the flushes of the disk that a directory lies on (field 16 of /sys/dev/block/*/stat)."""

    def __init__(self, directory):
        device = os.stat(directory).st_dev
        self.path = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat"
        partition_of = os.path.realpath(os.path.dirname(self.path))
        if os.path.exists(os.path.join(partition_of, "partition")):
            self.path = os.path.join(os.path.dirname(partition_of), "stat")

    def flushes(self):
        try:
            with open(self.path) as file:
                return int(file.read().split()[15])
        except (OSError, IndexError):
            return None


class Turn:
    """One group on one system, once."""

    def __init__(self, system, sizes, sources, disk):
        self.system, self.sizes, self.sources, self.disk = system, sizes, sources, disk
        self.directory = None
        self.found = {}  # row key -> (value, flushes an operation or None)

    def path(self, *names):
        return os.path.join(self.directory, *names)

    def cold(self):
        self.system.cold()

    def load(self, *words, prefix=(FSLOAD,), **more):
        output = command(*prefix, *words, timeout=self.sizes.timeout_s, **more)
        return json.loads(output.strip().splitlines()[-1])

    def measure(self, key, *words, **more):
        row = BY_KEY[key]
        if words[0] == "program":
            command(words[1], "--version")  # it is read from the disk before, and not as a part of the row
        before = self.disk.flushes()
        result = self.load(*words, **more)
        after = self.disk.flushes()
        flushes = None
        if row.flushes and before is not None:
            flushes = (after - before) / (1 if key in ("write", "random_write") else result["count"])
        per = {"s": result["seconds"], "/s": result["count"] / result["seconds"],
               "MiB/s": result["bytes"] / result["seconds"] / (1 << 20)}
        self.found[key] = (per[row.unit], flushes)


def data(turn):
    size, file = turn.sizes.file_bytes, turn.path("file")
    turn.measure("write", "sequential_write", file, size)
    turn.cold()
    turn.measure("read_cold", "sequential_read", file, size)
    turn.measure("read_warm", "sequential_read", file, size)
    turn.cold()
    turn.measure("random_read", "random_read", file, size, turn.sizes.random_ops)
    turn.measure("random_write", "random_write", file, size, turn.sizes.random_ops)
    turn.measure("append_fsync", "append_fsync", turn.path("log"), turn.sizes.appends)


def files(turn):
    count = turn.sizes.files
    turn.measure("create", "create", turn.directory, count, 1)
    turn.cold()
    turn.measure("stat_cold", "stat", turn.directory, count)
    turn.measure("stat_warm", "stat", turn.directory, count)
    turn.cold()
    turn.measure("small_read_cold", "read", turn.directory, count)
    turn.measure("small_read_warm", "read", turn.directory, count)
    turn.measure("rename", "rename", turn.directory, count)
    turn.measure("unlink", "unlink", turn.directory, count)


def four(turn):
    turn.measure("create_four", "create", turn.directory, turn.sizes.files_four, 4)


def directories(turn):
    os.mkdir(turn.path("p0"))
    turn.measure("mkdir", "mkdir", turn.directory, turn.sizes.directories)
    turn.measure("rmdir", "rmdir", turn.directory, turn.sizes.directories)


def listing(turn):
    os.mkdir(turn.path("p0"))
    turn.load("create_empty", turn.directory, turn.sizes.listed)
    for flag in ("f", "l"):
        turn.cold()
        turn.measure(f"ls_{flag}_cold", "program", "ls", f"-{flag}", turn.path("p0"))
        turn.load("program", "ls", f"-{flag}", turn.path("p0"))
        turn.measure(f"ls_{flag}_warm", "program", "ls", f"-{flag}", turn.path("p0"))


def tree(turn):
    with open(turn.sources.tar, "rb") as file:
        while file.read(1 << 20):
            pass
    turn.measure("untar", "program", "tar", "-xf", turn.sources.tar, "-C", turn.directory)
    turn.measure("du", "program", "du", "-s", turn.path("tree"))
    turn.cold()
    turn.measure("du_cold", "program", "du", "-s", turn.path("tree"))
    turn.measure("rm_rf", "program", "rm", "-rf", turn.path("tree"))


def git(turn):
    turn.sources.make_repository()
    clone, git_with = turn.path("clone"), {"env": GIT_ENVIRONMENT}
    command("git", "-C", turn.sources.repository, "count-objects", "-v")  # its packs are read
    turn.measure("git_clone", "program", "git", "clone", "-q", f"file://{turn.sources.repository}", clone, **git_with)
    # An index as old as the second in which the last files were written makes git read those files at each status.
    time.sleep(1.1)
    command("git", "-C", clone, "update-index", "--force-write-index", **git_with)
    turn.load("program", "git", "-C", clone, "status", **git_with)
    turn.measure("git_status_warm", "program", "git", "-C", clone, "status", **git_with)
    turn.cold()
    turn.measure("git_status_cold", "program", "git", "-C", clone, "status", **git_with)


def sqlite(turn):
    turn.measure("sqlite", "-c", SQLITE, turn.path("base"), turn.sizes.transactions, prefix=("/usr/bin/python3",))


# A group and the rows that it gives.
GROUPS = {
    data: ["write", "read_cold", "read_warm", "random_read", "random_write", "append_fsync"],
    files: ["create", "stat_cold", "stat_warm", "small_read_cold", "small_read_warm", "rename", "unlink"],
    four: ["create_four"],
    directories: ["mkdir", "rmdir"],
    listing: ["ls_f_cold", "ls_f_warm", "ls_l_cold", "ls_l_warm"],
    tree: ["untar", "du", "du_cold", "rm_rf"],
    git: ["git_clone", "git_status_cold", "git_status_warm"],
    sqlite: ["sqlite"],
}


def chosen(words):
    """The rows of names of rows or groups."""
    if not words:
        return [row.key for row in ROWS]
    groups = {group.__name__: keys for group, keys in GROUPS.items()}
    found = set()
    for word in words:
        if word not in BY_KEY and word not in groups:
            raise SystemExit(f"compare: no row {word}; rows: {' '.join(BY_KEY)}; groups: {' '.join(groups)}")
        found.update(groups.get(word, [word]))
    return [row.key for row in ROWS if row.key in found]


class Results:
    """.values[row][system]: a list of runs; .flushes likewise; .failures: [(system, group, why)]."""

    def __init__(self, wanted):
        self.wanted = wanted
        self.values = {key: {} for key in wanted}
        self.flushes = {key: {} for key in wanted}
        self.failures = []

    def add(self, system, found):
        for key, (value, flushes) in found.items():
            if key in self.values:
                self.values[key].setdefault(system, []).append(value)
                if flushes is not None:
                    self.flushes[key].setdefault(system, []).append(flushes)

    def median(self, key, system):
        runs = self.values[key].get(system)
        return statistics.median(runs) if runs else None

    def flushes_each(self, key, system):
        """The fewest of the runs: other programs flush this disk too."""
        runs = self.flushes[key].get(system)
        return min(runs) if runs else None


def measure_all(bench, wanted, runs, sizes, say):
    sources = Sources(bench.base, sizes.tree_files)
    disk = Disk(bench.base)
    results = Results(wanted)
    try:
        for group, keys in GROUPS.items():
            if not set(keys) & set(wanted):
                continue
            for number in range(runs):
                for system in bench.systems:
                    one_turn(group, number, Turn(system, sizes, sources, disk), results, say)
    except KeyboardInterrupt:  # what there is so far is shown
        results.failures.append(("all", "the rest", "interrupted"))
    return results


def one_turn(group, number, turn, results, say):
    system = turn.system
    turn.directory = os.path.join(system.directory, f"{group.__name__}{number}")
    os.sync()
    time.sleep(turn.sizes.settle_s)
    start = time.monotonic()
    try:
        os.mkdir(turn.directory)
        group(turn)
    except (Failed, AssertionError, OSError, ValueError, subprocess.SubprocessError) as error:
        results.failures.append((system.name, group.__name__, str(error)))
        say(f"FAILED {group.__name__} on {system.name}: {error}")
    results.add(system.name, turn.found)
    try:
        command("rm", "-rf", turn.directory, timeout=turn.sizes.timeout_s)
    except Failed as error:
        results.failures.append((system.name, group.__name__, f"removing its files: {error}"))
    shown = " ".join(f"{key} {value:.4g}" for key, (value, _) in turn.found.items())
    say(f"{group.__name__} {number + 1} {system.name} ({time.monotonic() - start:.1f} s): {shown}")
