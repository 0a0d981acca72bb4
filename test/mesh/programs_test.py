"""Programs that people run on a filesystem, with their own checks on: on a volume that another peer owns, and at its owner.

Three peers: peer1 works, peer2 is the other mount, peer3 owns /far; /near is peer1's own. Short form: small sizes. Long form
(EFS_LONG=1): every stressor of stress-ng's class by itself, larger databases, longer runs. Each prints `figure <check>_<where>_s`.
"""
import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import tempfile
import threading
import time

import mesh
from mesh import ENVIRONMENT, LIBC, LONG, TOP, DirectoryEach, NearAndFar, read, run, write

POSTGRES = "/usr/lib/postgresql/15/bin"
# Of stress-ng's class "filesystem": what touches no file below --temp-path, or mounts something of its own.
ELSEWHERE = {"binderfs", "bind-mount", "dup", "eventfd", "ioprio", "procfs"}
NOT_ON_FUSE = {"fiemap", "verity"}  # ioctls that FUSE does not pass on
SECONDS = 5 if LONG else 1  # for each stressor


def git(at, *words, check=True):
    return run("git", "-C", at, *words, env=ENVIRONMENT, check=check, timeout=600)


def at_once(*actions):
    """Runs the actions in threads of their own; raises what the first of them raised."""
    failures = []

    def guarded(action):
        try:
            action()
        except BaseException as error:  # pylint: disable=broad-except
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=[action]) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class Programs(DirectoryEach):
    """The checks; a subclass says where."""

    def tearDown(self):
        super().tearDown()
        run("rm", "-rf", self.here, timeout=600)

    # ---- load generators that check what they read ----

    def stress(self, *words, seconds):
        """stress-ng: its own checks, and nothing that it skipped for want of something."""
        done = run("stress-ng", *words, "--timeout", f"{seconds}s", "--temp-path", self.here, "--verify", "--oomable", "--no-rand-seed",
                   check=False, timeout=seconds + 300)
        said = done.stdout + done.stderr
        wrong = [line for line in said.splitlines() if re.search(r" fail: | error: |unsuccessful", line)]
        self.assertEqual((done.returncode, wrong), (0, []), said)
        self.assertLessEqual(set(re.findall(r"\] ([a-z-]+): .*skipping", said)), NOT_ON_FUSE, said)

    def test_stress_ng(self):
        said = run("stress-ng", "--class", "filesystem?", check=False).stdout
        stressors = sorted(set(said.split(":", 1)[1].split()) - ELSEWHERE)
        self.assertGreater(len(stressors), 30)
        if LONG:
            for stressor in stressors:
                with self.subTest(stressor=stressor):
                    self.stress(f"--{stressor}", "2", seconds=SECONDS)
        else:  # one of each, all at once
            self.stress("--class", "filesystem", "--all", "1", "--exclude", ",".join(sorted(ELSEWHERE)), seconds=6)

    def test_fio(self):
        size = "64m" if LONG else "4m"
        engines = [("psync", 0), ("psync", 1), ("libaio", 1), ("io_uring", 0), ("io_uring", 1), ("mmap", 0)]
        for engine, direct in engines:
            for pattern in ("randrw", "randwrite", "write") if LONG else ("randrw",):
                for block in ("4k", "512-64k", "1m") if LONG else ("4k-64k",):
                    if block == "512-64k" and direct:
                        block = "4k-64k"
                    sizes = f"--bsrange={block}" if "-" in block else f"--bs={block}"
                    out = run("fio", "--name=v", f"--directory={self.here}", f"--rw={pattern}", sizes, f"--size={size}", "--numjobs=3",
                              f"--direct={direct}", f"--ioengine={engine}", "--iodepth=8", "--verify=crc32c", "--verify_fatal=1",
                              "--do_verify=1", "--verify_backlog=64", "--end_fsync=1", "--output-format=json", "--group_reporting",
                              "--unlink=1", "--thread", timeout=1200)
                    job = json.loads(out.stdout[out.stdout.index("{"):])["jobs"][0]
                    self.assertEqual(job["error"], 0)

    def test_dbench(self):
        clients, seconds = (8, 60) if LONG else (3, 4)
        done = run("dbench", "-D", self.here, "-t", seconds, "-c", "/usr/share/dbench/client.txt", clients, timeout=seconds + 200)
        said = re.sub("failed to create barrier semaphore", "", done.stdout + done.stderr)  # of another run, which it then uses
        self.assertNotRegex(said, r"(?i)failed|error|unexpected")
        rate = re.search(r"Throughput ([0-9.]+) MB/sec", done.stdout)
        self.assertIsNotNone(rate, done.stdout)
        self.figure("dbench", float(rate.group(1)), "MB_per_s")

    # ---- databases ----

    def sqlite(self, path, tag, count, *pragmas):
        """One program that inserts and moves amounts, beside others that do the same."""
        run("/usr/bin/python3", "-c", SQLITE, path, tag, count, json.dumps(pragmas), timeout=900)

    def sound(self, path, count, writers):
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as database:
            self.assertEqual(database.execute("PRAGMA integrity_check").fetchone()[0], "ok")
            self.assertEqual(database.execute("SELECT count(*) FROM log").fetchone()[0], count * writers)
            self.assertEqual(database.execute("SELECT sum(amount) FROM accounts").fetchone()[0], 0)

    def test_sqlite(self):
        count = 400 if LONG else 25
        for name, here, pragmas in (("delete", False, ("journal_mode=DELETE",)),  # through both mounts at once
                                    ("truncate", False, ("journal_mode=TRUNCATE", "synchronous=FULL")),
                                    ("persist", False, ("journal_mode=PERSIST", "mmap_size=1000000")),
                                    ("wal", True, ("journal_mode=WAL",)),  # shares memory: one machine
                                    ("wal_mmap", True, ("journal_mode=WAL", "mmap_size=268435456", "wal_autocheckpoint=20"))):
            paths = [os.path.join(at, name) for at in (self.here, self.here if here else self.there)]
            with contextlib.closing(sqlite3.connect(paths[0], isolation_level=None)) as database:
                for pragma in pragmas:
                    database.execute("PRAGMA " + pragma)
                database.execute("CREATE TABLE log (who TEXT, number INTEGER, noise BLOB)")
                database.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, amount INTEGER)")
                database.execute("CREATE INDEX by_who ON log (who, number)")
                database.executemany("INSERT INTO accounts VALUES (?, 0)", [(n,) for n in range(50)])
            start = time.monotonic()
            at_once(*(lambda p=p, t=t: self.sqlite(p, t, count, *pragmas) for p, t in ((paths[0], "a"), (paths[0], "b"), (paths[1], "c"))))
            self.figure(f"sqlite_{name}", 3 * count / (time.monotonic() - start), "transactions_per_s")
            self.sound(paths[0], count, 3)
            self.sound(os.path.join(self.there, name), count, 3)

    def test_postgresql(self):
        scale, seconds = (10, 30) if LONG else (1, 2)
        os.chmod(self.here, 0o755)
        shutil.chown(self.here, "postgres", "postgres")
        sockets = tempfile.mkdtemp(prefix="efs-test-")
        shutil.chown(sockets, "postgres", "postgres")
        self.addCleanup(shutil.rmtree, sockets)

        def pg(program, *words, **more):
            return run(os.path.join(POSTGRES, program), *words, user="postgres", group="postgres", extra_groups=[], cwd=sockets,
                       env={"PGHOST": sockets, "PGDATABASE": "postgres", "PATH": os.environ["PATH"], "LC_ALL": "C"}, timeout=900, **more)

        def start(at):
            pg("pg_ctl", "-D", at, "-w", "-t", "120", "-l", os.path.join(sockets, "log"), "-o", f"-k {sockets} -c listen_addresses=", "start")

        def stop(at, how="fast"):
            pg("pg_ctl", "-D", at, "-w", "-t", "120", "-m", how, "stop")

        def sql(text):
            return pg("psql", "-XAtc", text).stdout.strip()

        def dump():
            return re.sub(r"(?m)^\\(un)?restrict .*$", "", pg("pg_dump").stdout)  # but for the token that pg_dump draws

        def bench():
            said = pg("pgbench", "-n", "-c", "4", "-T", str(seconds)).stdout
            self.figure("pgbench", float(re.search(r"tps = ([0-9.]+)", said).group(1)), "transactions_per_s")

        def sound(at):
            sums = {sql(f"SELECT sum({column}) FROM pgbench_{table}") for column, table in
                    (("abalance", "accounts"), ("bbalance", "branches"), ("tbalance", "tellers"), ("delta", "history"))}
            self.assertEqual(len(sums), 1, sums)
            pg("pg_amcheck", "--heapallindexed", "--parent-check", "--install-missing", "--on-error-stop", "postgres")
            before = dump()
            self.assertIn("pgbench_history", before)
            stop(at)
            pg("pg_checksums", "--check", "-D", at)
            return before

        here, there = os.path.join(self.here, "data"), os.path.join(self.there, "data")
        pg("initdb", "-D", here, "-A", "trust", "--no-locale", "-E", "UTF8", "--data-checksums")
        self.addCleanup(lambda: pg("pg_ctl", "-D", here, "-m", "immediate", "stop", check=False))
        start(here)
        pg("pgbench", "-i", "-s", str(scale), "-q", "--foreign-keys")
        bench()
        before = sound(here)
        start(there)  # the second mount goes on where the first stopped
        self.assertEqual(dump(), before)
        bench()
        before = sound(there)
        start(here)
        self.assertEqual(dump(), before)
        load = threading.Thread(target=lambda: pg("pgbench", "-n", "-c", "4", "-T", str(seconds + 30), check=False))
        load.start()
        time.sleep(seconds)
        answered = int(sql("SELECT count(*) FROM pgbench_history"))
        with open(os.path.join(here, "postmaster.pid")) as file:
            postmaster = int(file.readline())
        os.kill(postmaster, signal.SIGSTOP)  # it begins no other while these are counted
        children = run("pgrep", "-P", postmaster).stdout.split()
        for process in [postmaster, *map(int, children)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        load.join()
        mesh.wait_until("all of postgres is gone", lambda: not any(os.path.exists(f"/proc/{p}") for p in [postmaster, *children]))
        start(there)  # recovers, on the other mount
        self.assertGreaterEqual(int(sql("SELECT count(*) FROM pgbench_history")), answered)
        sound(there)
        with open(os.path.join(sockets, "log")) as log:
            self.assertNotRegex(log.read(), r"PANIC|could not (?!receive|send)|invalid page")

    def test_race(self):
        """Six programs do at random what may be done, in one small tree, through both mounts: nothing hangs, is lost or torn."""
        seed, seconds = mesh.fresh_seed(), 60 if LONG else 4
        os.mkdir(os.path.join(self.here, "race"))
        paths = [os.path.join(at, "race") for at in (self.here, self.there)]

        def racer(number):
            said = run("/usr/bin/python3", "-c", RACER, paths[number % 2], f"{seed}{number}", seconds, timeout=seconds + 120).stdout
            odd, stale, waited = said.splitlines()
            self.assertEqual(odd, "{}")
            self.assertLess(float(waited), 10, "a call hung")
            print(f"figure race_stale_paths_{self.where} {stale}", flush=True)

        at_once(*(lambda n=n: racer(n) for n in range(6)))
        self.assert_same(*paths)

    # ---- git, from two mounts ----

    def new_repository(self):
        os.mkdir(os.path.join(self.here, "tree"))
        here, there = os.path.join(self.here, "tree"), os.path.join(self.there, "tree")
        git(here, "init", "-q", "-b", "main")
        git(here, "config", "gc.auto", "0")
        for number in range(200 if LONG else 30):
            os.makedirs(os.path.join(here, f"d{number % 7}"), exist_ok=True)
            write(os.path.join(here, f"d{number % 7}", f"f{number}"), os.urandom(number * 50))
        git(here, "add", "-A")
        git(here, "commit", "-qm", "first")
        return here, there

    def test_git_one_tree_in_turns(self):
        trees = self.new_repository()
        rounds = 30 if LONG else 5
        for number in range(rounds):
            mine, other = trees[number % 2], trees[1 - number % 2]
            with open(os.path.join(mine, "d1", "f1"), "a") as file:
                file.write(f"line {number}\n")
            write(os.path.join(mine, f"new{number}"), os.urandom(3000))
            self.assertEqual(len(git(other, "status", "--porcelain").stdout.splitlines()), 2)
            git(other, "add", "-A")
            git(mine, "commit", "-qm", f"round {number}")
            self.assertEqual(git(other, "status", "--porcelain").stdout, "")
            self.assertEqual(git(other, "log", "-1", "--format=%s").stdout, f"round {number}\n")
            git(other, "mv", f"new{number}", f"d2/moved{number}")
            git(mine, "commit", "-qm", f"moved {number}")
            git(mine, "checkout", "-q", "-b", f"branch{number}", "HEAD~1")
            self.assertTrue(os.path.exists(os.path.join(other, f"new{number}")))
            git(other, "checkout", "-q", "main")
            self.assertFalse(os.path.exists(os.path.join(mine, f"new{number}")))
            if number % 5 == 3:
                git(mine, "gc", "-q")
                git(other, "stash", "list")
        for at in trees:
            self.assertEqual(git(at, "fsck", "--full", "--strict").stdout, "")
            self.assertEqual(git(at, "status", "--porcelain").stdout, "")
            self.assertEqual(git(at, "rev-list", "--count", "main").stdout, f"{2 * rounds + 1}\n")

    def test_git_one_tree_at_once(self):
        here, there = self.new_repository()
        rounds = 30 if LONG else 6

        def work(at, tag):
            """Its own files. Only one at a time: git reads its index before it locks it."""
            for number in range(rounds):
                write(os.path.join(at, f"{tag}{number}"), os.urandom(5000))
                run("flock", os.path.join(at, ".git", "turn"), "sh", "-ec", 'git -C "$1" add "$2"; git -C "$1" commit -qm "$2"', "-", at,
                    f"{tag}{number}", env=ENVIRONMENT, timeout=300)

        def look(at):
            for _ in range(rounds):
                git(at, "--no-optional-locks", "status", "--porcelain")  # else it locks the index
                git(at, "log", "--oneline")
                git(at, "rev-list", "--objects", "--all")
                self.assertIn(git(at, "grep", "-c", "nowhere in it", "HEAD", check=False).returncode, (0, 1))  # reads every file's object

        at_once(lambda: work(here, "a"), lambda: work(there, "b"), lambda: look(there))
        for at in (here, there):
            self.assertEqual(git(at, "fsck", "--full", "--strict", "--no-dangling").stdout, "")
            self.assertEqual(git(at, "status", "--porcelain").stdout, "")
            self.assertEqual(set(git(at, "log", "--format=%s").stdout.split()),
                             {"first"} | {f"{tag}{n}" for tag in "ab" for n in range(rounds)})

    def test_git_two_clones_push_at_once(self):
        bare = os.path.join(self.here, "bare")
        git(self.here, "init", "-q", "--bare", "-b", "main", bare)
        git(self.here, "clone", "-q", bare, os.path.join(self.here, "one"))
        write(os.path.join(self.here, "one", "f"), b"f")
        git(os.path.join(self.here, "one"), "add", "f")
        git(os.path.join(self.here, "one"), "commit", "-qm", "first")
        git(os.path.join(self.here, "one"), "push", "-q", "origin", "HEAD:main")
        git(self.there, "clone", "-q", os.path.join(self.there, "bare"), os.path.join(self.there, "two"))
        rounds = 20 if LONG else 4

        def work(at, tag):
            for number in range(rounds):
                write(os.path.join(at, f"{tag}{number}"), os.urandom(20_000))
                git(at, "add", "-A")
                git(at, "commit", "-qm", f"{tag}{number}")
                for _ in range(200):
                    if git(at, "push", "-q", "origin", "HEAD:main", check=False).returncode == 0:
                        break
                    git(at, "pull", "-q", "--rebase", "origin", "main")
                else:
                    self.fail(f"{tag}{number} was not pushed")

        at_once(lambda: work(os.path.join(self.here, "one"), "a"), lambda: work(os.path.join(self.there, "two"), "b"))
        for at in (bare, os.path.join(self.there, "bare")):
            self.assertEqual(git(at, "fsck", "--full", "--strict", "--no-dangling").stdout, "")
            self.assertEqual(git(at, "rev-list", "--count", "main").stdout, f"{2 * rounds + 1}\n")

    # ---- copying, archiving, building ----

    def odd_tree(self):
        """All that a copy may lose: links, holes, owners, modes, times, attributes, special files, odd names."""
        source = os.path.join(self.here, "source")
        run("cp", "-a", "/usr/include/c++/12/bits" if LONG else "/usr/share/perl/5.36.0/unicore/lib", source, timeout=300)
        at = lambda name: os.path.join(source, name)
        os.mkdir(at("d"), 0o2770)
        write(at("linked"), b"x" * 5000)
        os.link(at("linked"), at("d/linked too"))
        os.symlink("../linked", at("d/soft"))
        os.symlink("nowhere", at("dangling"))
        os.mkfifo(at("fifo"), 0o640)
        os.mknod(at("device"), 0o020640, os.makedev(1, 3))
        write(at("suid"), b"#!/bin/true\n")
        os.chown(at("suid"), 1234, 5678)
        os.chmod(at("suid"), 0o6755)
        os.lchown(at("dangling"), 77, 88)
        write(os.fsencode(at("odd ")) + b"\xff\n'\"\\", b"odd")
        with open(at("holes"), "wb") as file:
            file.truncate(50 << 20)
            os.pwrite(file.fileno(), b"middle" * 5000, 20 << 20)
        for name in ("linked", "d"):
            os.setxattr(at(name), "user.note", b"kept " + name.encode())
            os.setxattr(at(name), "trusted.note", b"\0\1\2")
        for number, name in enumerate(("linked", "suid", "holes", "d", "dangling", "fifo")):
            os.utime(at(name), ns=(10**18 + number, 10**18 - 987_654_321 * number), follow_symlinks=False)
        return source

    def assert_same(self, one, other):
        first, second = inventory(one), inventory(other)
        self.assertEqual({name: (first.get(name), second.get(name)) for name in {*first, *second} if first.get(name) != second.get(name)}, {})

    def test_copies(self):
        source = self.odd_tree()
        other = os.path.join(self.there, "source")
        self.assert_same(source, other)
        for name, words in {"cp": ["cp", "-a", "--reflink=auto", "--sparse=auto", source],
                            "cp_sparse": ["cp", "-a", "--reflink=never", "--sparse=always", other],
                            "rsync": ["rsync", "-aHAX", "--sparse", source + "/"],
                            "rsync_in_place": ["rsync", "-aHAX", "--inplace", "--whole-file", other + "/"]}.items():
            copy = os.path.join(self.here, name)
            run(*words, copy, timeout=600)
            self.assert_same(source, copy)
            self.assertLess(os.stat(os.path.join(copy, "holes")).st_blocks * 512, (1 << 20) if name != "rsync_in_place" else 1 << 30)
            again = run("rsync", "-aHAX", "--delete", "--itemize-changes", "--stats", source + "/", copy, timeout=600).stdout
            self.assertRegex(again, r"regular files transferred: 0\n")
            self.assertEqual([line for line in again.splitlines() if re.match(r"[<>ch.*][fdLDS][.+]", line)], [], name)
        away = tempfile.mkdtemp(prefix="efs-test-")  # to ext4 and back
        self.addCleanup(shutil.rmtree, away)
        archive = os.path.join(self.here, "archive.tar")
        run("tar", "-C", source, "--xattrs", "--xattrs-include=*", "--sparse", "-cf", archive, ".", timeout=600)
        for to in (os.path.join(away, "tar"), os.path.join(self.there, "tar")):
            os.mkdir(to)
            run("tar", "-C", to, "--xattrs", "--xattrs-include=*", "--same-owner", "-xpf", archive, timeout=600)
            self.assert_same(source, to)
        run("tar", "-C", source, "--compare", "-f", archive, timeout=600)

    def test_make_in_parallel(self):
        os.mkdir(os.path.join(self.here, "src"))
        count = 300 if LONG else 40
        for number in range(count):
            write(os.path.join(self.here, "src", f"f{number}.c"), f"#include \"common.h\"\nint f{number}(void) {{ return COMMON + {number}; }}\n".encode())
        write(os.path.join(self.here, "src", "common.h"), b"#define COMMON 1\n")
        write(os.path.join(self.here, "src", "main.c"), b"int f7(void);\nint main(void) { return f7() == 8 ? 0 : 1; }\n")
        write(os.path.join(self.here, "Makefile"), MAKEFILE)
        run("make", "-C", self.here, "-j4", "-s", env=ENVIRONMENT, timeout=600)
        run(os.path.join(self.there, "program"))
        self.assertIn("up to date", run("make", "-C", self.there, env=ENVIRONMENT).stdout)
        write(os.path.join(self.there, "src", "f7.c"), b"int f7(void) { return 9; }\n")
        built = run("make", "-C", self.here, "-j4", env=ENVIRONMENT).stdout
        self.assertEqual(built.count(" -c "), 1)
        self.assertEqual(run(os.path.join(self.there, "program"), check=False).returncode, 1)

    def test_flock_of_the_shell(self):
        counter, rounds = os.path.join(self.here, "counter"), 100 if LONG else 15
        write(counter, b"0\n")
        script = f'for i in $(seq {rounds}); do flock "$1/lock" sh -c \'read n <"$1"; echo $((n + 1)) >"$1"\' - "$1/counter"; done'
        at_once(*(lambda at=at: run("bash", "-ec", script, "-", at, timeout=600) for at in (self.here, self.there, self.here)))
        for at in (self.here, self.there):
            self.assertEqual(read(os.path.join(at, "counter")), b"%d\n" % (3 * rounds))

    def test_a_program_begins_another_with_many_files_open(self):
        """The kernel closes them in the middle of execve(2): nothing that serves that may wait for the program."""
        script = ("import os, sys\n"
                  "files = [os.open(os.path.join(sys.argv[1], f'f{i}'), os.O_RDWR | os.O_CREAT) for i in range(100)]\n"
                  "for file in files: os.write(file, b'x')\n"
                  "os.execv('/bin/true', ['true'])\n")
        for _ in range(10):
            for at in (self.here, self.there):
                run("/usr/bin/python3", "-c", script, at, timeout=20)

    def test_inotify(self):
        """What this machine does is told to this machine's watchers, as on any filesystem."""
        flags = {0x100: "create", 0x2: "modify", 0x8: "close_write", 0x4: "attrib", 0x40: "moved_from", 0x80: "moved_to", 0x200: "delete"}
        watcher = LIBC.inotify_init1(os.O_NONBLOCK)
        self.assertGreaterEqual(LIBC.inotify_add_watch(watcher, os.fsencode(self.here), sum(flags)), 0)
        run("sh", "-c", "echo x >a; chmod 600 a; mv a b; rm b; mkdir c; rmdir c", cwd=self.here)
        events, told = [], os.read(watcher, 65536)
        os.close(watcher)
        while told:
            _, mask, _, length = struct.unpack_from("iIII", told)
            events.append((flags.get(mask & 0xfff, hex(mask)), told[16:16 + length].rstrip(b"\0").decode()))
            told = told[16 + length:]
        self.assertEqual(events, [("create", "a"), ("modify", "a"), ("close_write", "a"), ("attrib", "a"), ("moved_from", "a"),
                                  ("moved_to", "b"), ("delete", "b"), ("create", "c"), ("delete", "c")])


def inventory(top):
    """All that is to be the same of two trees."""
    found, numbers = {}, {}
    for directory, directories, files in os.walk(os.fsencode(top)):
        directories.sort()
        for name in [b"."] + directories + sorted(files):
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, os.fsencode(top))
            info = os.lstat(path)
            about = [oct(info.st_mode), info.st_uid, info.st_gid, info.st_mtime_ns, info.st_rdev]
            if not os.path.isdir(path) or os.path.islink(path):
                about += [info.st_size, info.st_nlink, numbers.setdefault(info.st_ino, relative) if info.st_nlink > 1 else None]
            if os.path.islink(path):
                about.append(os.readlink(path))
            elif oct(info.st_mode).startswith("0o100"):
                about.append(read(path) if info.st_size < 1 << 20 else subprocess.run(["sha256sum", path], capture_output=True, check=True).stdout.split()[0])
            about.append({a: os.getxattr(path, a, follow_symlinks=False) for a in sorted(os.listxattr(path, follow_symlinks=False))})
            found[relative] = about
    return found


MAKEFILE = b"""objects := $(patsubst src/%.c,build/%.o,$(wildcard src/*.c))
program: $(objects)
\tcc -o $@ $^
build/%.o: src/%.c src/common.h | build
\tcc -c -o $@ $<
build:
\tmkdir build
"""

SQLITE = """
import json, random, sqlite3, sys
path, tag, count, pragmas = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
database = sqlite3.connect(path, isolation_level=None, timeout=300)
for pragma in pragmas:
    if not pragma.startswith("journal_mode=WAL"):
        database.execute("PRAGMA " + pragma)
for number in range(count):
    database.execute("BEGIN IMMEDIATE")
    database.execute("INSERT INTO log VALUES (?, ?, randomblob(?))", (tag, number, random.choice((10, 500, 5000))))
    amount = random.randrange(1000)
    database.execute("UPDATE accounts SET amount = amount - ? WHERE id = ?", (amount, random.randrange(50)))
    database.execute("UPDATE accounts SET amount = amount + ? WHERE id = ?", (amount, random.randrange(50)))
    database.execute("COMMIT")
    if number % 7 == 0:
        assert database.execute("SELECT sum(amount) FROM accounts").fetchone()[0] == 0
        assert database.execute("SELECT count(*) FROM log WHERE who = ?", (tag,)).fetchone()[0] == number + 1
"""

# Prints what failed in a way that a race does not explain.
RACER = r"""
import collections, errno, os, random, sys, time, traceback
os.chdir(sys.argv[1])
draw, end, odd = random.Random(sys.argv[2]), time.monotonic() + float(sys.argv[3]), collections.Counter()
expected = {errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EINVAL, errno.ELOOP, errno.ENODATA, errno.EPERM}
def path():
    return "/".join(draw.choice("abcd") for _ in range(draw.choice((1, 1, 2, 3))))
def put():
    with open(path(), draw.choice(("wb", "ab", "r+b")), buffering=0) as file:
        file.seek(draw.choice((0, 100, 5000, 100_000)))
        file.write(b"x" * draw.choice((1, 3000, 70_000)))
        if draw.random() < 0.2:
            os.fsync(file.fileno())
def get():
    with open(path(), "rb", buffering=0) as file:
        data = file.read(300_000)  # of a directory refused, before fstat: docs/vfs.md, of one that another mount has removed
        os.fstat(file.fileno())
        if data.strip(b"x\0"):
            odd["bytes that nobody wrote"] += 1
calls = [put, put, put, get, get, lambda: os.mkdir(path()), lambda: os.mkdir(path()), lambda: os.rmdir(path()), lambda: os.unlink(path()),
         lambda: os.rename(path(), path()), lambda: os.rename(path(), path()), lambda: os.link(path(), path()), lambda: os.symlink(path(), path()),
         lambda: os.truncate(path(), draw.randrange(200_000)), lambda: os.listdir(os.path.dirname(path()) or "."), lambda: os.stat(path()),
         lambda: os.chmod(path(), draw.choice((0o700, 0o755))), lambda: os.setxattr(path(), "user.a", b"1"), lambda: os.removexattr(path(), "user.a"),
         lambda: os.utime(path()), lambda: os.readlink(path())]
waited = stale = 0
while time.monotonic() < end:
    call, begun = draw.choice(calls), time.monotonic()
    try:
        call()
    except OSError as error:
        # A path that leads through a directory which the other mount has just moved: docs/vfs.md.
        if error.errno == errno.ESTALE and traceback.extract_tb(error.__traceback__)[-1].lineno not in (10, 11, 13, 16, 17):
            stale += 1
        elif error.errno not in expected:
            odd[f"{error}, line {traceback.extract_tb(error.__traceback__)[-1].lineno}"] += 1
    waited = max(waited, time.monotonic() - begun)
print(dict(odd), stale, waited, sep="\n")
"""


class Elsewhere(Programs, NearAndFar):
    where, prefix = "elsewhere", "far"


class AtTheOwner(Programs, NearAndFar):
    where, prefix = "owner", "near"


if __name__ == "__main__":
    mesh.main()
