"""Locks across mounts: three peers, one volume, its owner the first; programs lock through all three mounts.

flock(2), fcntl(2)'s POSIX and open file descriptions' locks: they exclude, are handed over at once, wait without
holding up the mount, are interrupted by signals, are named by F_GETLK, go with the program that held them and with
its peer (SIGKILL: within 3 s), and outlive a kill and restart of the owner. SQLite from two mounts at once.
Every lock is taken by a process of its own (Program), as programs do. EFS_LONG=1: more rounds.
"""
import ctypes
import errno
import fcntl
import json
import os
import signal
import sqlite3
import statistics
import struct
import subprocess
import sys
import threading
import time
import unittest

import mesh
from mesh import LIBC, LONG, Mesh, wait_until

ROUNDS = 400 if LONG else 40
F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38
FLOCK = "hhqqi4x"  # struct flock: type, whence, start, length, pid


def flock_struct(kind, start=0, length=0, pid=0):
    return struct.pack(FLOCK, kind, os.SEEK_SET, start, length, pid)


class Program:
    """A process that does with files what it is told, one line of JSON each."""

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, __file__, "--program"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1)
        self.pid = self.process.pid

    def begin(self, *words):
        self.process.stdin.write(json.dumps(words) + "\n")

    def end(self):
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError("the program ended")
        return json.loads(line)

    def __call__(self, *words):
        """The result; a string of an errno's name when the call failed."""
        self.begin(*words)
        return self.end()

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Inside:
    """What a Program is told."""

    def __init__(self):
        self.files = {}

    def open(self, name, path, flags=os.O_RDWR | os.O_CREAT):
        self.files[name] = os.open(path, flags, 0o666)

    def close(self, name):
        os.close(self.files.pop(name))

    def flock(self, name, how):
        fcntl.flock(self.files[name], how)

    def posix(self, name, kind, start=0, length=0, wait=False):
        fcntl.fcntl(self.files[name], fcntl.F_SETLKW if wait else fcntl.F_SETLK, flock_struct(kind, start, length))

    def ofd(self, name, kind, start=0, length=0, wait=False):
        fcntl.fcntl(self.files[name], F_OFD_SETLKW if wait else F_OFD_SETLK, flock_struct(kind, start, length))

    def get(self, name, kind, start=0, length=0, command=fcntl.F_GETLK):
        kind, _, start, length, pid = struct.unpack(FLOCK, fcntl.fcntl(self.files[name], command, flock_struct(kind, start, length)))
        return [kind, start, length, pid]

    def alarm(self, seconds):
        """From now on a signal ends a call (no SA_RESTART)."""
        signal.signal(signal.SIGALRM, lambda number, frame: None)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def wait_raw(self, name, kind):
        """A waiting fcntl that says how it ended; Python would begin it anew after a signal."""
        start = time.monotonic()
        result = LIBC.fcntl(self.files[name], fcntl.F_SETLKW, ctypes.create_string_buffer(flock_struct(kind)))
        return [result, ctypes.get_errno() if result else 0, time.monotonic() - start]

    def wait_and_close(self, name, other):
        """A thread waits for a lock; another closes a descriptor of the same file meanwhile."""
        thread = threading.Thread(target=self.posix, args=[name, fcntl.F_WRLCK, 0, 0, True])
        thread.start()
        time.sleep(0.3)
        self.close(other)
        thread.join()

    def count(self, name, counter, rounds, how):
        """Under the lock: reads the number in `counter`, and writes one more."""
        for _ in range(rounds):
            self.lock_by(name, how, True)
            value = int(os.pread(self.files[counter], 20, 0) or b"0")
            os.pwrite(self.files[counter], b"%d" % (value + 1), 0)
            self.lock_by(name, how, False)

    def lock_by(self, name, how, on):
        if how == "flock":
            fcntl.flock(self.files[name], fcntl.LOCK_EX if on else fcntl.LOCK_UN)
        elif how == "ofd":
            self.ofd(name, fcntl.F_WRLCK if on else fcntl.F_UNLCK, wait=True)
        else:
            self.posix(name, fcntl.F_WRLCK if on else fcntl.F_UNLCK, wait=True)

    def turns(self, name, rounds):
        """When a lock that others hold and wait for was had, and let go of."""
        times = []
        for _ in range(rounds):
            fcntl.flock(self.files[name], fcntl.LOCK_EX)
            had = time.monotonic()
            time.sleep(0.003)
            times.append([had, time.monotonic()])
            fcntl.flock(self.files[name], fcntl.LOCK_UN)
        return times

    def insert(self, path, who, rows):
        db = sqlite3.connect(path, timeout=60, isolation_level=None)
        for number in range(rows):
            db.execute("begin immediate")
            total = db.execute("select count(*) from t").fetchone()[0]
            db.execute("insert into t values (?, ?, ?)", (who, number, total))
            db.execute("commit")
        db.close()


def program():
    inside = Inside()
    for line in sys.stdin:
        name, *words = json.loads(line)
        try:
            result = getattr(inside, name)(*words)
        except OSError as error:
            result = errno.errorcode[error.errno]
        print(json.dumps(result), flush=True)


READ, WRITE, UNLOCK = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
NOW = fcntl.LOCK_NB


class Locks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mesh = Mesh(3, unreachable_timeout=60)
        cls.number = 0

    @classmethod
    def tearDownClass(cls):
        cls.mesh.close()

    def setUp(self):
        Locks.number += 1
        self.name = f"file{self.number}"
        self.programs = []

    def tearDown(self):
        for one in self.programs:
            one.kill()

    def program(self, peer, name=None, flags=os.O_RDWR | os.O_CREAT):
        """One with `name` open as "f" on that peer's mount."""
        one = Program()
        self.programs.append(one)
        self.assertIsNone(one("open", "f", self.mesh[peer].path(name or self.name), flags))
        return one

    def test_exclusion(self):
        for how in ["posix", "flock", "ofd"]:
            counter = f"{self.name}-{how}"
            programs = [self.program(peer, counter + "-lock") for peer in (0, 1, 2, 1)]
            for one in programs:
                one("open", "c", self.mesh[self.programs.index(one) % 3].path(counter))
            start = time.monotonic()
            for one in programs:
                one.begin("count", "f", "c", ROUNDS, how)
            for one in programs:
                self.assertIsNone(one.end())
            rate = 4 * ROUNDS / (time.monotonic() - start)
            with open(self.mesh[2].path(counter)) as file:
                self.assertEqual(int(file.read()), 4 * ROUNDS)
            print(f"figure locked_increments_per_s {how} {rate:.0f}")

    def test_ranges_and_kinds(self):
        a, b, c = (self.program(peer) for peer in range(3))
        self.assertIsNone(a("posix", "f", WRITE, 0, 10))
        self.assertIsNone(b("posix", "f", WRITE, 10, 10))
        self.assertEqual(c("posix", "f", READ, 5, 10), "EAGAIN")
        self.assertIsNone(c("posix", "f", READ, 20, 0))
        self.assertEqual(a("posix", "f", WRITE, 1000, 1), "EAGAIN")
        self.assertIsNone(a("posix", "f", READ, 1000, 1))
        # Who holds it.
        self.assertEqual(c("get", "f", READ, 0, 0), [WRITE, 0, 10, a.pid])
        self.assertEqual(c("get", "f", WRITE, 12, 3), [WRITE, 10, 10, b.pid])
        self.assertEqual(b("get", "f", WRITE, 30, 3), [READ, 20, 0, c.pid])
        self.assertEqual(b("get", "f", READ, 30, 3)[0], UNLOCK)
        # flock is of another kind.
        for one in (a, b):
            self.assertIsNone(one("flock", "f", fcntl.LOCK_SH | NOW))
        self.assertEqual(c("flock", "f", fcntl.LOCK_EX | NOW), "EAGAIN")
        # Closing any descriptor drops a process's POSIX locks, not its flocks.
        for other in (a, b):
            self.assertIsNone(other("open", "g", self.mesh[self.programs.index(other)].path(self.name)))
            self.assertIsNone(other("close", "g"))
        self.assertIsNone(c("posix", "f", WRITE, 0, 0))
        self.assertEqual(c("flock", "f", fcntl.LOCK_EX | NOW), "EAGAIN")
        self.assertIsNone(a("flock", "f", fcntl.LOCK_UN))
        self.assertIsNone(b("close", "f"))
        self.assertIsNone(c("flock", "f", fcntl.LOCK_EX | NOW))

    def test_open_file_descriptions(self):
        a, b = self.program(1), self.program(2)
        a("open", "g", self.mesh[1].path(self.name))
        self.assertIsNone(a("ofd", "f", WRITE, 0, 10))
        self.assertEqual(a("ofd", "g", WRITE, 0, 1), "EAGAIN")  # one process, two descriptions
        self.assertEqual(a("posix", "f", WRITE, 0, 1), "EAGAIN")
        self.assertEqual(b("ofd", "f", READ, 9, 1), "EAGAIN")
        self.assertEqual(b("get", "f", READ, 0, 0, F_OFD_GETLK), [WRITE, 0, 10, -1])
        a("close", "g")  # drops nothing of the other
        self.assertEqual(b("ofd", "f", READ, 9, 1), "EAGAIN")
        a("close", "f")
        self.assertIsNone(b("ofd", "f", WRITE, 0, 0))

    def test_who_would_not_wait_gets_it_from_who_has_closed(self):
        """
        The kernel says that a file was closed just after close() has returned. How soon its mount hears of it is the
        scheduler's: one in twenty may be refused.
        """
        for how, kind in [("flock", fcntl.LOCK_EX | NOW), ("ofd", WRITE)]:
            a, b = self.program(0), self.program(2)
            refused = 0
            for _ in range(ROUNDS):
                for mine, peer, other in [(a, 0, b), (b, 2, a)]:
                    self.assertIsNone(mine(how, "f", kind))
                    self.assertIsNone(mine("close", "f"))
                    while (answer := other(how, "f", kind)) == "EAGAIN":
                        refused += 1
                    self.assertIsNone(answer)
                    self.assertIsNone(other(how, "f", fcntl.LOCK_UN if how == "flock" else UNLOCK))
                    self.assertIsNone(mine("open", "f", self.mesh[peer].path(self.name), os.O_RDWR))
            print(f"figure refused {how} {refused} of {2 * ROUNDS}")
            self.assertLessEqual(refused, 2 * ROUNDS // 20, how)
        # Locked by who stays: refused all the same, soon, and nobody is left waiting for it.
        self.assertIsNone(a("flock", "f", fcntl.LOCK_SH | NOW))
        start = time.monotonic()
        self.assertEqual(b("flock", "f", fcntl.LOCK_EX | NOW), "EAGAIN")
        self.assertLess(time.monotonic() - start, 1)
        self.assertIsNone(a("flock", "f", fcntl.LOCK_EX | NOW))
        self.assertIsNone(a("flock", "f", fcntl.LOCK_UN))
        self.assertIsNone(self.program(1)("flock", "f", fcntl.LOCK_EX | NOW))

    def test_hand_over(self):
        for first, second in [(0, 1), (1, 2), (2, 0)]:
            a, b = self.program(first), self.program(second)
            rounds = ROUNDS
            a.begin("turns", "f", rounds)
            b.begin("turns", "f", rounds)
            times = sorted([(had, let, "a") for had, let in a.end()] + [(had, let, "b") for had, let in b.end()])
            gaps = [later[0] - earlier[1] for earlier, later in zip(times, times[1:]) if later[2] != earlier[2]]
            self.assertTrue(all(later[0] >= earlier[1] for earlier, later in zip(times, times[1:])), "one at a time")
            self.assertGreater(len(gaps), rounds // 2, "they take turns")
            print(f"figure hand_over_ms peer{first + 1}-peer{second + 1} median {statistics.median(gaps) * 1e3:.2f} max {max(gaps) * 1e3:.1f}")
            self.assertLess(max(gaps), 1.0)

    def test_waiting(self):
        for holder, waiter in [(0, 1), (1, 0), (1, 2)]:
            a, b = self.program(holder), self.program(waiter)
            self.assertIsNone(a("posix", "f", WRITE))
            b("alarm", 0.3)
            result, number, seconds = b("wait_raw", "f", WRITE)
            self.assertEqual((result, number), (-1, errno.EINTR))
            self.assertLess(seconds, 1.3)
            # Interrupted means not locked: nobody waits, and a can change its own lock at will.
            self.assertIsNone(a("posix", "f", UNLOCK))
            self.assertIsNone(a("posix", "f", WRITE))
            b.begin("posix", "f", WRITE, 0, 0, True)
            time.sleep(0.1)
            # The mount goes on meanwhile.
            c = self.program(waiter, self.name + "-other")
            self.assertIsNone(c("posix", "f", WRITE))
            # A waiter that is killed does not get it.
            d = self.program(waiter)
            d.begin("posix", "f", WRITE, 0, 0, True)
            time.sleep(0.1)
            d.kill()
            self.programs.remove(d)
            self.assertIsNone(a("posix", "f", UNLOCK))
            self.assertIsNone(b.end())
            self.assertEqual(a("posix", "f", WRITE), "EAGAIN")
            # A holder that is killed lets go.
            a.begin("posix", "f", WRITE, 0, 0, True)
            time.sleep(0.1)
            b.kill()
            self.programs.remove(b)
            self.assertIsNone(a.end())
            for one in (a, c):
                self.assertIsNone(one("posix", "f", UNLOCK))

    def test_a_descriptor_is_closed_while_a_thread_waits(self):
        """What the process had then goes; what it is granted afterwards goes with the process."""
        for holder, waiter in [(0, 1), (1, 0), (1, 2)]:
            a, b = self.program(holder), self.program(waiter)
            b("open", "other", self.mesh[waiter].path(self.name))
            self.assertIsNone(a("posix", "f", WRITE))
            b.begin("wait_and_close", "f", "other")
            time.sleep(0.6)
            self.assertIsNone(a("posix", "f", UNLOCK))
            self.assertIsNone(b.end())
            self.assertEqual(a("posix", "f", WRITE), "EAGAIN")
            b.kill()
            self.programs.remove(b)
            wait_until("it is free", lambda program=a: program("posix", "f", WRITE) is None, 3)
            self.assertIsNone(a("posix", "f", UNLOCK))

    def test_many_wait(self):
        """More than requests without an answer may be: none hangs, each gets it."""
        holder = self.program(0)
        self.assertIsNone(holder("flock", "f", fcntl.LOCK_EX))
        path = self.mesh[1].path(self.name)
        done = []

        def take():
            fd = os.open(path, os.O_RDWR)
            fcntl.flock(fd, fcntl.LOCK_EX)
            done.append(fd)
            os.close(fd)

        threads = [threading.Thread(target=take) for _ in range(100)]
        for one in threads:
            one.start()
        time.sleep(0.5)
        self.assertEqual(done, [])
        holder("flock", "f", fcntl.LOCK_UN)
        for one in threads:
            one.join(20)
        self.assertEqual(len(done), 100)

    def test_deadlock(self):
        a, b = self.program(1), self.program(2)
        a("posix", "f", WRITE, 0, 1)
        b("posix", "f", WRITE, 1, 1)
        a.begin("posix", "f", WRITE, 1, 1, True)
        time.sleep(0.2)
        self.assertEqual(b("posix", "f", WRITE, 0, 1, True), "EDEADLOCK")  # the same number
        b("posix", "f", UNLOCK)
        self.assertIsNone(a.end())

    def test_sqlite(self):
        rows = 300 if LONG else 40
        path = [peer.path(self.name + ".db") for peer in self.mesh.peers]
        db = sqlite3.connect(path[0])
        db.execute("create table t (who, number, total)")
        db.commit()
        db.close()
        programs = [self.program(peer) for peer in (1, 2)]
        start = time.monotonic()
        for number, one in enumerate(programs):
            one.begin("insert", path[number + 1], number, rows)
        for one in programs:
            self.assertIsNone(one.end())
        print(f"figure sqlite_transactions_per_s two mounts {2 * rows / (time.monotonic() - start):.0f}")
        db = sqlite3.connect(path[0])
        self.assertEqual(db.execute("pragma integrity_check").fetchone()[0], "ok")
        self.assertEqual([row[0] for row in db.execute("select total from t order by rowid")], list(range(2 * rows)))
        db.close()

    def test_z_owner_restarts(self):
        """Killed and back: what was held is held, what waited gets it in the end."""
        owner = self.mesh[0]
        a, b, c = self.program(1), self.program(2), self.program(2)
        self.assertIsNone(a("posix", "f", WRITE, 0, 10))
        self.assertIsNone(a("flock", "f", fcntl.LOCK_SH))
        b.begin("posix", "f", WRITE, 5, 1, True)
        self.mesh[2].efs("where", "/" + self.name)  # a session that keeps nothing
        time.sleep(0.1)
        owner.kill()
        owner.run()
        start = time.monotonic()
        self.assertEqual(c("posix", "f", WRITE, 0, 1), "EAGAIN")
        waited = time.monotonic() - start
        print(f"figure first_lock_after_restart_s {waited:.2f}")
        self.assertLess(waited, 5)  # of the 10 that a mount which does not come back is waited for
        self.assertEqual(c("flock", "f", fcntl.LOCK_EX | NOW), "EAGAIN")
        self.assertEqual(c("get", "f", READ, 0, 1), [WRITE, 0, 10, a.pid])
        self.assertIsNone(a("posix", "f", UNLOCK))
        self.assertIsNone(b.end())
        d = self.program(0)  # a mount at the owner, too
        self.assertEqual(d("posix", "f", WRITE, 0, 0), "EAGAIN")
        b("close", "f")
        self.assertIsNone(d("posix", "f", WRITE, 0, 0))

    def test_z_peer_killed(self):
        """Its locks are free within 3 s; one of a peer that lives is not."""
        a, b, c = self.program(2), self.program(1), self.program(0)
        for one, start in [(a, 0), (b, 100)]:
            self.assertIsNone(one("posix", "f", WRITE, start, 1))
        self.mesh[2].kill()
        start = time.monotonic()
        self.assertIsNone(c("posix", "f", WRITE, 0, 1, True))
        seconds = time.monotonic() - start
        print(f"figure freed_after_kill_s {seconds:.2f}")
        self.assertLess(seconds, 3.0)
        self.assertEqual(c("posix", "f", WRITE, 100, 1), "EAGAIN")
        self.mesh[2].run()
        d = self.program(2)
        self.assertEqual(d("posix", "f", WRITE, 0, 1), "EAGAIN")


if __name__ == "__main__":
    if sys.argv[1:] == ["--program"]:
        program()
    else:
        mesh.main()
