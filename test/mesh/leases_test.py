#!/usr/bin/env python3
"""Leases between real mounts: what is cached is recalled, and a mount that went silent is waited for and fenced."""
import concurrent.futures
import ctypes
import mmap
import os
import signal
import subprocess
import tempfile
import threading
import time
import unittest

import mesh
from mesh import LIBC, LONG, Mesh, NearAndFar, read, run

TERM = 1.5  # seconds: kLeaseTerm


class Silent(unittest.TestCase):
    """A mount with bytes that it has buffered under an exclusive lease stops (SIGSTOP), and goes on."""

    @classmethod
    def setUpClass(cls):
        cls.mesh = Mesh(3, unreachable_timeout=20)
        cls.mesh.__enter__()
        cls.mesh[0].efs("volume", "create", "/far", "--on", "peer3", "--yes")

    @classmethod
    def tearDownClass(cls):
        cls.mesh.__exit__(None, None, None)

    def buffered(self, name):
        """A file of A, durable, over which B is buffered at the first peer."""
        file = os.open(self.mesh[0].path("far", name), os.O_CREAT | os.O_RDWR)
        os.write(file, b"A" * 1000)
        os.fsync(file)
        time.sleep(0.2)
        os.pwrite(file, b"B" * 1000, 0)
        return file

    def while_stopped(self, action):
        self.mesh[0].signal(signal.SIGSTOP)
        try:
            start = time.monotonic()
            action()
            return time.monotonic() - start
        finally:
            self.mesh[0].signal(signal.SIGCONT)

    def test_what_others_wrote_meanwhile_stays(self):
        file = self.buffered("written")
        there = self.mesh[1].path("far", "written")

        def write():
            with open(there, "r+b") as other:
                other.write(b"C" * 10)

        waited = self.while_stopped(write)
        self.assertLess(waited, 2 * TERM + 1)  # for the open, and for the write
        with self.assertRaises(OSError):
            os.fsync(file)
        os.close(file)
        for peer in self.mesh.peers:
            self.assertEqual(read(peer.path("far", "written"))[:12], b"CCCCCCCCCCAA")
        with open(self.mesh[0].path("far", "written"), "r+b") as again:  # it was told once; what is new is taken
            again.write(b"D" * 5)
        self.assertEqual(read(there)[:12], b"DDDDDCCCCCAA")

    def test_buffered_bytes_arrive_when_others_only_read(self):
        file = self.buffered("read")
        there = self.mesh[1].path("far", "read")
        seen = []
        waited = self.while_stopped(lambda: seen.append(read(there)))
        self.assertEqual(seen, [b"A" * 1000])
        self.assertLess(waited, TERM + 1)
        os.fsync(file)
        os.close(file)
        self.assertEqual(read(there), b"B" * 1000)

    def test_a_stopped_mount_believes_nothing_old_when_it_goes_on(self):
        here, there = self.mesh[0].path("far", "known"), self.mesh[1].path("far", "known")
        with open(there, "wb") as file:
            file.write(b"old")
        self.assertEqual(read(here), b"old")
        waited = self.while_stopped(lambda: os.rename(there, there + "2"))
        self.assertLess(waited, TERM + 1)
        time.sleep(0.1)
        self.assertFalse(os.path.exists(here))
        self.assertEqual(read(here + "2"), b"old")

    def test_what_it_has_open_stays_when_others_remove_it(self):
        here, there = self.mesh[0].path("far", "open"), self.mesh[1].path("far", "open")
        with open(there, "wb") as file:
            file.write(b"old" * 100_000)
        os.stat(here)
        with open(here, "rb") as file:  # under its lease: the owner is told with a renewal
            time.sleep(TERM)
            self.while_stopped(lambda: os.unlink(there))
            self.assertEqual(file.read(), b"old" * 100_000)
        self.assertFalse(os.path.exists(here))

    def test_a_mode_that_others_set_meanwhile_stays(self):
        here, there = self.mesh[0].path("far", "mode"), self.mesh[1].path("far", "mode")
        file = self.buffered("mode")
        os.fchmod(file, 0o644)
        self.while_stopped(lambda: os.chmod(there, 0o600))
        with self.assertRaises(OSError):
            os.fsync(file)
        os.close(file)
        for path in (here, there):
            self.assertEqual(os.stat(path).st_mode & 0o7777, 0o600)
        self.assertEqual(read(there), b"B" * 1000)  # nobody else had written


class Restarted(unittest.TestCase):
    """An owner is killed and started; what mounts repeat to it comes before what is new."""

    def test_what_is_written_after_the_restart_stays(self):
        with Mesh(2) as m:
            owner, other = m.peers
            os.mkdir(owner.path("d"))
            for turn in range(3):
                here, there = (peer.path("d", f"f{turn}") for peer in (owner, other))
                file = os.open(there, os.O_RDWR | os.O_CREAT, 0o644)
                os.write(file, b"A" * 8)
                self.assertEqual(read(here), b"A" * 8)  # called back, and kept until it is durable
                owner.kill()
                owner.run()
                with open(here, "r+b", buffering=0) as new:
                    new.write(b"B" * 8)
                self.assertEqual(read(here), b"B" * 8)
                self.assertEqual(read(there), b"B" * 8)
                time.sleep(TERM)
                self.assertEqual(read(here), b"B" * 8)
                os.close(file)


class Together(unittest.TestCase):
    """Mounts that change the same names and files at once; what one has done, the others see."""

    def test_hand_over(self):
        with Mesh(3) as m:
            m[0].efs("volume", "create", "/far", "--on", "peer3", "--yes")
            worst = 0.0
            for number in range(120):
                here, there = m[number % 3].path("far"), m[(number // 3) % 3].path("far")
                name = f"f{number % 5}"
                start = time.monotonic()
                self.assertFalse(os.path.exists(os.path.join(there, name)))
                with open(os.path.join(here, name), "wb") as file:
                    file.write(b"%d" % number)
                self.assertEqual(read(os.path.join(there, name)), b"%d" % number)
                with open(os.path.join(there, name), "ab") as file:
                    file.write(b"-more")
                self.assertEqual(os.stat(os.path.join(here, name)).st_size, len(b"%d-more" % number))
                self.assertEqual(read(os.path.join(here, name)), b"%d-more" % number)
                self.assertIn(name, os.listdir(there))
                os.unlink(os.path.join(here, name))
                self.assertFalse(os.path.exists(os.path.join(there, name)))
                self.assertNotIn(name, os.listdir(there))
                worst = max(worst, time.monotonic() - start)
            print(f"figure hand_over_worst_s {worst:.3f}", flush=True)


# Opens a file that is being replaced all the time: it is always there, and whole. Prints what was odd.
READER = r"""
import collections, os, sys, time
path, end, odd = sys.argv[1], time.monotonic() + float(sys.argv[2]), collections.Counter()
while time.monotonic() < end:
    try:
        with open(path, "rb", buffering=0) as file:
            size, content = os.fstat(file.fileno()).st_size, file.read(10_000)
        if len(content) != size or len(set(content)) != 1:
            odd[f"{size} bytes, read {len(content)}"] += 1
        if os.stat(path).st_size == 0:
            odd["empty"] += 1
        for _ in range(20):
            os.lstat(path)
    except OSError as error:
        odd[str(error)] += 1
print(dict(odd))
"""


class Replaced(NearAndFar):
    """As git, make and every careful editor do: a new file is renamed over the old one, while others open it."""

    def replaced(self, prefix, writers, readers, link=False):
        seconds, path = 60 if LONG else 4, [peer.path(prefix, self._testMethodName) for peer in self.mesh.peers[:2]]

        def replace(at):
            """How often; each time with another file, or a link to one."""
            end, count = time.monotonic() + seconds, 0
            while count == 0 or time.monotonic() < end:
                new = f"{path[at]}.{at}.{count if link else 'new'}"
                with open(new, "wb") as file:
                    file.write(b"%d" % (count % 10) * (1 + count * 37 % 6000))
                if link:
                    os.symlink(os.path.basename(new), new + ".link")
                os.rename(new + ".link" if link else new, path[at])
                count += 1
                if count == 1:
                    started.wait()
            return count

        started = threading.Barrier(len(writers) + 1)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            writing = [pool.submit(replace, at) for at in writers]
            started.wait()
            reading = [pool.submit(run, "/usr/bin/python3", "-c", READER, path[at], seconds) for at in readers]
            counts = [one.result() for one in writing]
        print(f"figure {self._testMethodName.removeprefix('test_')} {sum(counts)}", flush=True)
        self.assertGreater(min(counts), 20)
        self.assertEqual([one.result().stdout for one in reading], ["{}\n"] * len(readers))

    def test_replaced_elsewhere(self):
        self.replaced("far", [0], [1, 1, 0])

    def test_replaced_by_two_mounts(self):
        self.replaced("far", [0, 1], [])

    def test_replaced_at_the_owner_and_elsewhere(self):
        self.replaced("near", [0, 1], [])

    def test_replaced_links(self):
        self.replaced("far", [0], [1], link=True)


# Opens a file when another one is there, and counts the pages that are not of the number.
OPENER = r"""
import os, random, sys
path, go, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
print(flush=True)
while not os.path.exists(go):
    os.stat(os.path.dirname(go))  # fails when the test has ended
file = os.open(path, os.O_RDWR)
places = [random.randrange(os.fstat(file).st_size >> 12) << 12 for _ in range(300)]
print(sum(set(os.pread(file, 4096, place)) != {number} for place in places))
"""


class Pages(NearAndFar):
    """Which pages of a file the kernel keeps when it is opened: those that are written here, and none of before others wrote."""

    PAGES = 64

    def resident(self, file, count):
        with mmap.mmap(file.fileno(), count * mmap.PAGESIZE) as pages:
            told = (ctypes.c_ubyte * count)()
            first = ctypes.c_char.from_buffer(pages)
            self.assertEqual(LIBC.mincore(ctypes.byref(first), ctypes.c_size_t(len(pages)), told), 0)
            del first
            return sum(one & 1 for one in told)

    def stay(self, prefix):
        path = self.mesh[0].path(prefix, self._testMethodName)
        with open(path, "w+b", buffering=0) as file:
            for number in range(self.PAGES):
                file.write(b"%d" % (number % 10) * mmap.PAGESIZE)
                with open(path, "r+b", buffering=0):
                    self.assertEqual(self.resident(file, number + 1), number + 1)

    def renewed(self, writer, reader):
        """Four processes open at once what another mount has written anew: none reads what the kernel had before."""
        name, size = self._testMethodName, 16 << 20
        for number in range(1, 7):
            with open(self.mesh[writer].path("near", name), "w+b" if number == 1 else "r+b", buffering=0) as file:
                file.write(bytes([number]) * size)
            with tempfile.TemporaryDirectory() as start:
                words = ["/usr/bin/python3", "-c", OPENER, self.mesh[reader].path("near", name), os.path.join(start, "go"), str(number)]
                openers = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(4)]  # pylint: disable=consider-using-with
                for opener in openers:
                    opener.stdout.readline()
                open(os.path.join(start, "go"), "w").close()  # pylint: disable=consider-using-with
                self.assertEqual([opener.communicate()[0] for opener in openers], [b"0\n"] * 4)
            read(self.mesh[reader].path("near", name))

    def test_renewed_from_elsewhere(self):
        self.renewed(1, 0)

    def test_renewed_from_the_owner(self):
        self.renewed(0, 1)

    def test_stay_at_the_owner(self):
        self.stay("near")

    def test_stay_elsewhere(self):
        self.stay("far")


# Makes and removes files where it stands, until the mount is gone.
MAKER = r"""
import errno, os, sys
os.chdir(sys.argv[1])
while True:
    for call in (lambda: os.close(os.open("name", os.O_CREAT | os.O_WRONLY)), lambda: os.unlink("name")):
        try:
            call()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINTR):
                sys.exit(str(error))
"""


class Unmounted(NearAndFar):
    """News waits for the lock of a directory in which programs go on making files, whose requests nobody serves any more."""

    def test_while_programs_change_names(self):
        paths = [peer.path("near", "unmounted") for peer in self.mesh.peers[:2]]
        os.mkdir(paths[0])
        for _ in range(3):
            mesh.wait_until("the directory is there", lambda: os.path.isdir(paths[1]))
            makers = [subprocess.Popen(["/usr/bin/python3", "-c", MAKER, paths[at]], stderr=subprocess.DEVNULL) for at in (0, 0, 1, 1, 1)]
            try:
                time.sleep(1)
                self.mesh[1].efs("umount", self.mesh[1].mount, timeout=20)
                self.assertTrue(all(maker.wait(10) for maker in makers[2:]))
            finally:
                for maker in makers:
                    maker.kill()
                    maker.wait()
            self.mesh[1].efs("mount", self.mesh[1].mount)


class Walks(NearAndFar):
    """Who walks a tree has directories listed ahead: what they show is not older than what was done before they are listed."""

    ROUNDS = 60

    def walk(self, reader, writer):
        """Both are the directory of one volume, on two mounts, or on one."""
        os.mkdir(os.path.join(writer, "walks"))
        for number in range(self.ROUNDS):
            top = os.path.join("walks", str(number))
            for sub in range(6):
                os.makedirs(os.path.join(writer, top, f"d{sub}"))
                for file in range(3):
                    with open(os.path.join(writer, top, f"d{sub}", f"f{file}"), "w", encoding="utf-8") as out:
                        out.write("before")
            there = os.path.join(reader, top)
            subs = os.listdir(there)
            os.listdir(os.path.join(there, subs[0]))
            time.sleep(number % 4 * 0.0004)  # some of it comes before what follows, some after
            for sub in subs[1:5]:
                changed = os.path.join(writer, top, sub)
                with open(os.path.join(changed, "made"), "w", encoding="utf-8") as out:
                    out.write("made")
                os.unlink(os.path.join(changed, "f0"))
                with open(os.path.join(changed, "f1"), "a", encoding="utf-8") as out:
                    out.write(", and after")
                os.rename(os.path.join(changed, "f2"), os.path.join(changed, "renamed"))
            for sub in subs[1:5]:
                found = {entry.name: entry.stat().st_size for entry in os.scandir(os.path.join(there, sub))}
                self.assertEqual(found, {"made": 4, "f1": 17, "renamed": 6}, f"round {number}, {sub}")

    def test_others_change_it(self):
        self.walk(self.mesh[0].path("far"), self.mesh[1].path("far"))

    def test_its_owner_changes_it(self):
        self.walk(self.mesh[1].path("near"), self.mesh[0].path("near"))

    def test_the_walker_changes_it(self):
        directory = os.path.join(self.mesh[0].path("far"), "alone")
        os.mkdir(directory)
        self.walk(directory, directory)


if __name__ == "__main__":
    mesh.main()
