"""Damage to a data directory, and full disks: said plainly, with the right exit code, and the rest goes on.

Bits are flipped, files cut short or emptied in copies of one peer's data directory; disks are small ones in memory.
"""
import contextlib
import errno
import functools
import hashlib
import os
import tempfile
import random
import re
import shutil
import time
import unittest

import mesh
from mesh import PEER, Mesh, read, run, wait_until, write

CHANCE = random.Random(mesh.fresh_seed())


def flip(path, *offsets):
    """Another bit at each of these places."""
    with open(path, "r+b") as file:
        for offset in offsets:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1 << CHANCE.randrange(8)]))


class Damage(unittest.TestCase):
    """One peer with two volumes; every test damages a copy of its data."""

    @classmethod
    def setUpClass(cls):
        cls.mesh = Mesh(1, unreachable_timeout=3)
        peer = cls.peer = cls.mesh[0]
        peer.efs("volume", "create", "/other", "--yes")
        cls.bytes = {f"big{i}": CHANCE.randbytes(100_000) for i in range(20)}
        cls.bytes |= {f"small{i}": CHANCE.randbytes(500) for i in range(20)}
        for name, content in cls.bytes.items():
            write(peer.path(name), content)
        write(peer.path("other", "file"), b"of the other volume")
        volumes = {volume["prefix"]: volume["id"] for volume in peer.status()["volumes"]}
        peer.stop()
        cls.rows, cls.other_rows = (os.path.join("volumes", volumes[prefix], "data.mdb") for prefix in ("/", "/other"))
        cls.whole = os.path.join(cls.mesh.base, "whole")
        shutil.copytree(peer.data, cls.whole)

    @classmethod
    def tearDownClass(cls):
        cls.mesh.close()

    def setUp(self):
        shutil.rmtree(self.peer.data)
        shutil.copytree(self.whole, self.peer.data)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.peer.log)

    def tearDown(self):
        if self.peer.alive():
            self.peer.stop()

    def at(self, name):
        return os.path.join(self.peer.data, name)

    def cut(self, name, part):
        """To this part of its size; tables to whole pages."""
        size = int(os.path.getsize(self.at(name)) * part)
        os.truncate(self.at(name), size // 4096 * 4096 if name.endswith(".mdb") else size)

    def checked(self, code, *words, repair=False):
        done = run(PEER, "check", "--data", self.peer.data, *(["--repair"] if repair else []), check=False, timeout=60)
        text = done.stdout + done.stderr
        self.assertEqual(done.returncode, code, text)
        for word in words:
            self.assertIn(word, text)
        return text

    def refuses_to_run(self, code, *words):
        done = self.peer.run(check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)
        self.assertFalse(self.peer.alive())

    def serves(self, *, root=True, other=True):
        """Which of the two volumes are served whole; nothing wrong is ever read."""
        self.assertTrue(self.peer.alive())
        health = self.peer.status()
        if root:
            for name, content in self.bytes.items():
                self.assertEqual(read(self.peer.path(name)), content)
        if other and root:
            self.assertEqual(read(self.peer.path("other", "file")), b"of the other volume")
            self.assertFalse(health["health"].startswith("HEALTH_ERR"), health)
        if not (root and other):
            self.assertEqual(health["health"], "HEALTH_ERR")
            self.assertIn("is lost", " ".join(health["reasons"]))

    def knows_of_damage(self):
        health = self.peer.status()
        self.assertEqual(health["health"], "HEALTH_ERR")
        self.assertIn("volume / is damaged", " ".join(health["reasons"]))

    def log(self):
        with open(self.peer.log) as file:
            return file.read()

    def test_small_files_cut_short(self):
        for name, word in (("peer.key", "key file"), ("mesh.secret", "damaged"), ("format", "format")):
            for part in (0, 0.5):
                with self.subTest(name, part=part):
                    self.setUp()
                    self.cut(name, part)
                    self.refuses_to_run(1, self.at(name), word)
                    self.checked(1, self.at(name), word)
        for part in (0, 0.5):
            self.setUp()
            self.cut("genesis", part)
            self.checked(1, self.at("genesis"), "damaged")
        self.setUp()
        settings = read(self.at("efs.yaml"))
        write(self.at("efs.yaml"), settings[:settings.index(b"mount: ") + 3])
        self.refuses_to_run(2, self.at("efs.yaml"))

    def test_the_register(self):
        self.cut("register/data.mdb", 0)
        self.refuses_to_run(1, "the disk has lost it", "Do not delete " + self.peer.data)
        self.checked(1, "the disk has lost it")
        self.setUp()
        self.cut("register/data.mdb", 0.5)
        self.refuses_to_run(1, self.at("register"), "MDB_CORRUPTED")
        self.checked(1, self.at("register"), "MDB_CORRUPTED")
        self.setUp()
        rows = read(self.at("register/data.mdb"))  # an entry, wherever it stands
        flip(self.at("register/data.mdb"), *(at.start() + 40 for at in re.finditer(b"peer1", rows)))
        self.refuses_to_run(1, self.at("register"), "is damaged")
        self.checked(1, self.at("register"), "is damaged")

    def test_the_metadata_of_one_volume_cut_short(self):
        for part in (0, 0.2, 0.5):
            with self.subTest(part=part):
                self.setUp()
                self.cut(self.other_rows, part)
                self.checked(1, "volume " + self.other_rows.split("/")[1][:12])
                self.peer.run()
                self.serves(other=False)
                with self.assertRaises(OSError) as caught:
                    os.listdir(self.peer.path("other"))
                self.assertEqual(caught.exception.errno, errno.EHOSTUNREACH)
                self.peer.stop()

    def test_bits_of_the_metadata(self):
        """A row is told to be damaged; the rows beside it are read."""
        rows = read(self.at(self.rows))
        places = [at.start() for at in re.finditer(re.escape(self.bytes["small7"]), rows)]
        self.assertNotEqual(places, [])
        flip(self.at(self.rows), *(place + CHANCE.randrange(500) for place in places))
        self.checked(1, "is damaged (table")
        self.peer.run()
        with self.assertRaises(OSError) as caught:
            read(self.peer.path("small7"))
        self.assertEqual(caught.exception.errno, errno.EIO)
        for name, content in self.bytes.items():
            if name != "small7":
                self.assertEqual(read(self.peer.path(name)), content)
        self.knows_of_damage()
        self.assertRegex(self.log(), r"error: volume 0: a row of \S+ is damaged")

    def test_bits_anywhere_in_the_metadata(self):
        """Nothing wrong is read, and whoever ends says why."""
        for _ in range(20 if mesh.LONG else 3):
            self.setUp()
            size = os.path.getsize(self.at(self.rows))
            flip(self.at(self.rows), *(CHANCE.randrange(8192, size) for _ in range(20)))
            done = self.peer.run(check=False)
            if done.returncode == 0:
                for name, content in self.bytes.items():
                    with contextlib.suppress(OSError):
                        self.assertEqual(read(self.peer.path(name)), content)
            else:
                self.assertRegex(done.stderr + self.log(), re.escape(self.peer.data))
            if self.peer.alive():
                self.peer.stop()
            checked = run(PEER, "check", "--data", self.peer.data, check=False)
            self.assertIn(checked.returncode, (0, 1), checked.stderr)

    def test_what_can_be_made_again_is(self):
        for name, part in (("chunk-index/data.mdb", 0.5), ("dht/data.mdb", 0.5)):
            with self.subTest(name):
                self.setUp()
                self.cut(name, part)
                self.refuses_to_run(1, self.at(os.path.dirname(name)), "check --repair")
                self.checked(1, self.at(os.path.dirname(name)))
                self.checked(0, "no problem found", repair=True)
                self.peer.run()
                self.serves()
                self.peer.stop()
        self.setUp()
        self.cut("chunk-index/data.mdb", 0)
        self.peer.run()
        self.serves()

    def test_bits_of_a_segment(self):
        segment = self.at("chunks/segments/00000001.seg")
        place = read(segment).index(self.bytes["big3"])
        flip(segment, place + CHANCE.randrange(50_000))
        self.checked(1, "is damaged or lost")
        self.peer.run()
        with self.assertRaises(OSError) as caught:
            read(self.peer.path("big3"))
        self.assertEqual(caught.exception.errno, errno.EIO)
        with open(self.peer.path("big3"), "rb") as file:  # the blocks beside it are whole
            file.seek(90_000)
            self.assertEqual(file.read(4000), self.bytes["big3"][90_000:94_000])
        for name, content in self.bytes.items():
            if name != "big3":
                self.assertEqual(read(self.peer.path(name)), content)
        self.knows_of_damage()
        self.assertRegex(self.log(), r"error: volume 0: cannot read inode \d+ at \d+: chunk \w+ is damaged, in " + segment)

    def test_bits_of_the_log(self):
        """Below what was synced: refused, and nothing is changed."""
        self.peer.run()
        for number in range(3):
            with open(self.peer.path(f"logged{number}"), "wb") as file:
                file.write(b"the bytes of this file are in the log %d" % number)
                os.fsync(file.fileno())
        self.peer.kill()
        log = max((os.path.join(self.at("log"), name) for name in os.listdir(self.at("log"))),
                  key=lambda path: read(path).rfind(b"in the log 2"))
        content = read(log)
        flip(log, content.index(b"in the log 0"))
        before = read(log)
        self.refuses_to_run(1, "the log in " + self.at("log"), "is damaged", "nothing was changed")
        self.checked(1, "the log in " + self.at("log"), "is damaged")
        self.assertEqual(read(log), before)
        write(log, content)
        self.peer.run()
        for number in range(3):
            self.assertEqual(read(self.peer.path(f"logged{number}")), b"the bytes of this file are in the log %d" % number)

    def test_metadata_cut_short_under_a_running_peer(self):
        """A read of a mapped page that is gone is a signal: its last words name the environment."""
        self.peer.run()
        os.truncate(self.at(self.other_rows), 8192)

        def look():
            run("ls", self.peer.path("other"), check=False)
            return not self.peer.alive()

        wait_until("the peer ends", look, 10, 0.2)
        self.assertIn(f"efs-peer: {self.at(self.other_rows)} cannot be read", self.log())
        done = run("ls", self.peer.mount, check=False)  # as after a kill, until it runs again
        self.assertNotEqual(done.returncode, 0)
        self.peer.run()
        self.serves(other=False)


class FullDisks(unittest.TestCase):
    def disk(self, size):
        path = tempfile.mkdtemp(prefix="efs-test-")  # not below the mesh, which is deleted while this is mounted
        self.addCleanup(os.rmdir, path)
        run("mount", "-t", "tmpfs", "-o", f"size={size}M", "efs-test", path)
        self.addCleanup(run, "umount", "-l", path)
        return path

    @contextlib.contextmanager
    def peer_on_a_disk(self, size):
        """Log, metadata and chunks on one small disk."""
        with Mesh(1, start=False) as m:
            disk = self.disk(size)
            m[0].data = os.path.join(disk, "data")
            m.start()
            yield m[0], disk
            m[0].stop()
            self.assertIn("no problem found", m[0].check())

    def takes_changes_again(self, peer, content):
        def writes():
            with contextlib.suppress(OSError):
                write(peer.path("after"), content)
                return True
            return False

        wait_until("changes are taken again", writes, 10)

    def fill(self, peer, size):
        """Files until there is no room; their names."""
        names = []
        with self.assertRaises(OSError) as caught:
            for number in range(1000):
                path = peer.path(f"fill{number}")
                names.append(path)
                with open(path, "wb") as file:
                    file.write(CHANCE.randbytes(size))
                    os.fsync(file.fileno())
        self.assertEqual(caught.exception.errno, errno.ENOSPC)
        return names

    def goes_on(self, peer, kept):
        self.assertTrue(peer.alive())
        self.assertEqual(read(peer.path("kept")), kept)
        self.assertTrue(peer.status()["health"].startswith("HEALTH_"))

    def use(self, peer, size):
        kept = CHANCE.randbytes(2_000_000)
        write(peer.path("kept"), kept)
        names = self.fill(peer, size)
        self.goes_on(peer, kept)
        self.assertLess(os.statvfs(peer.mount).f_bavail * os.statvfs(peer.mount).f_frsize, 2 * size)
        for name in names:
            os.unlink(name)
        again = CHANCE.randbytes(size)

        def writes():
            try:
                with open(peer.path("again"), "wb") as file:
                    file.write(again)
                    os.fsync(file.fileno())
                return True
            except OSError as error:
                self.assertEqual(error.errno, errno.ENOSPC)
                return False

        wait_until("there is room again", writes, 20, 0.2)
        self.goes_on(peer, kept)
        self.assertEqual(read(peer.path("again")), again)
        os.unlink(peer.path("again"))
        peer.stop()
        self.assertIn("no problem found", peer.check())

    def test_a_full_store(self):
        """A small disk for chunks: its one segment is not full when the disk is."""
        with Mesh(1, start=False) as m:
            m[0].extra = ["--store", os.path.join(self.disk(40), "chunks")]
            m.start()
            m[0].extra = []
            self.use(m[0], 3_000_000)

    def test_a_store_at_its_limit(self):
        with Mesh(1, start=False) as m:
            m[0].extra = ["--store", os.path.join(m.base, "chunks") + ":30M"]
            m.start()
            m[0].extra = []
            self.use(m[0], 3_000_000)

    def test_a_full_disk_under_the_data_directory(self):
        """Somebody else fills the rest of it."""
        with self.peer_on_a_disk(400) as (peer, disk):
            kept = CHANCE.randbytes(2_000_000)
            write(peer.path("kept"), kept)
            for number in range(50):
                write(peer.path(f"small{number}"), b"x" * 1000)
            with contextlib.suppress(OSError), open(os.path.join(disk, "foreign"), "wb") as file:
                while True:
                    file.write(bytes(1 << 20))
            time.sleep(1.5)  # it looks once a second
            for action in (lambda: write(peer.path("new"), b"x"), lambda: os.mkdir(peer.path("newdir")),
                           lambda: write(peer.path("small0"), b"y" * 500_000)):
                with self.assertRaises(OSError) as caught:
                    action()
                self.assertEqual(caught.exception.errno, errno.ENOSPC)
            space = os.statvfs(peer.mount)
            self.assertEqual((space.f_bavail, space.f_favail), (0, 0))
            os.chmod(peer.path("small1"), 0o600)
            os.rename(peer.path("small1"), peer.path("renamed"))
            self.goes_on(peer, kept)
            for number in range(10, 50):
                os.unlink(peer.path(f"small{number}"))
            os.unlink(os.path.join(disk, "foreign"))
            self.takes_changes_again(peer, kept)
            self.goes_on(peer, kept)
            self.assertEqual(read(peer.path("after")), kept)
            self.assertEqual(read(peer.path("small5")), b"x" * 1000)

    def test_a_start_on_a_full_disk(self):
        """There is less room than a file of the log wants."""
        with self.peer_on_a_disk(400) as (peer, disk):
            kept = CHANCE.randbytes(2_000_000)
            write(peer.path("kept"), kept)
            with open(os.path.join(disk, "foreign"), "wb") as file:
                space = os.statvfs(disk)
                file.write(bytes(space.f_bavail * space.f_frsize - (20 << 20)))
            for end in (peer.kill, peer.stop, peer.kill):
                end()
                peer.run()
                self.goes_on(peer, kept)
                os.rename(peer.path("kept"), peer.path("moved"))
                os.rename(peer.path("moved"), peer.path("kept"))
                with self.assertRaises(OSError) as caught:
                    write(peer.path("new"), b"x")
                self.assertEqual(caught.exception.errno, errno.ENOSPC)
            os.unlink(os.path.join(disk, "foreign"))
            self.takes_changes_again(peer, b"x")

    def test_a_disk_full_of_metadata(self):
        """LMDB's files do not become smaller: what is free in them is room."""
        with self.peer_on_a_disk(300) as (peer, _):
            for _ in range(2):
                os.mkdir(peer.path("filled"))
                with self.assertRaises(OSError) as caught:
                    for number in range(20000):
                        path = peer.path("filled", str(number))
                        write(path, b"")
                        os.setxattr(path, "user.much", CHANCE.randbytes(20000))
                self.assertEqual(caught.exception.errno, errno.ENOSPC)
                wait_until("it says so", lambda: os.statvfs(peer.mount).f_favail == 0, 3)
                shutil.rmtree(peer.path("filled"))
                self.takes_changes_again(peer, b"x")
                self.assertGreater(os.statvfs(peer.mount).f_favail, 1000)

    def is_refused(self, action):
        """For want of room, and soon, or it is done."""
        start = time.monotonic()
        try:
            action()
            refused = False
        except OSError as error:
            self.assertEqual(error.errno, errno.ENOSPC)
            refused = True
        self.assertLess(time.monotonic() - start, 10)
        return refused

    def fill_without_fsync(self, here):
        """Files of 1 MiB blocks until write or close fails: what was closed, by name, and the one that failed."""
        closed = {}
        for number in range(1000):
            name = f"fill{number}"
            blocks = [CHANCE.randbytes(1 << 20) for _ in range(5)]
            failed = []
            file = os.open(os.path.join(here, name), os.O_CREAT | os.O_WRONLY)
            for block in blocks:
                failed.append(self.is_refused(lambda data=block: self.assertEqual(os.write(file, data), 1 << 20)))
            if number % 4 == 3:
                failed.append(self.is_refused(lambda: os.fsync(file)))
            failed.append(self.is_refused(lambda: os.close(file)))
            if any(failed):
                return closed, name
            closed[name] = hashlib.sha256(b"".join(blocks)).digest()
        self.fail("the disk is larger than that")

    def test_the_disk_of_an_owner_elsewhere(self):
        """Whoever writes at another mount is told; what closed without an error is whole, and nothing else happens."""
        with Mesh(2, start=False) as m:
            disk = self.disk(300)
            m[1].data = os.path.join(disk, "data")
            m.start()
            m[0].efs("volume", "create", "/far", "--on", "peer2", "--yes")
            here, there = (peer.path("far") for peer in m.peers)
            at = functools.partial(os.path.join, here)
            kept = CHANCE.randbytes(2_000_000)
            write(at("kept"), kept)
            held = os.open(at("held"), os.O_CREAT | os.O_RDWR)
            os.write(held, kept)
            os.fsync(held)
            closed, failed = self.fill_without_fsync(here)
            self.assertGreater(len(closed), 10)

            def is_whole():
                for where in (here, there):
                    self.assertEqual(read(os.path.join(where, "kept")), kept)
                    for name, digest in closed.items():
                        self.assertEqual(hashlib.sha256(read(os.path.join(where, name))).digest(), digest, name)

            is_whole()
            self.assertEqual(read(at(failed)), read(os.path.join(there, failed)))  # whatever it is
            source = os.path.join(m.base, "source")
            write(source, CHANCE.randbytes(40 << 20))
            copied = run("cp", source, at("copy"), check=False)
            self.assertEqual(copied.returncode, 1)
            self.assertIn("No space left on device", copied.stderr)

            # Somebody else takes the rest, which names need.
            with contextlib.suppress(OSError), open(os.path.join(disk, "foreign"), "wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 20))
            time.sleep(1.5)  # it looks once a second
            changes = {"create": lambda: write(at("new"), b"x"), "mkdir": lambda: os.mkdir(at("directory")),
                       "symlink": lambda: os.symlink("kept", at("symbolic")), "link": lambda: os.link(at("kept"), at("second")),
                       "setxattr": lambda: os.setxattr(at("kept"), "user.much", CHANCE.randbytes(30_000)),
                       "overwrite": lambda: (os.pwrite(held, CHANCE.randbytes(1 << 20), 0), os.fsync(held)),
                       "chmod": lambda: os.chmod(at("kept"), 0o600), "rename": lambda: os.rename(at("kept"), at("moved")),
                       "rename back": lambda: os.rename(at("moved"), at("kept"))}
            refused = [name for name, change in changes.items() if self.is_refused(change)]
            self.assertEqual(refused, ["create", "mkdir", "symlink", "link", "setxattr", "overwrite"])
            is_whole()

            for name in [*closed, failed, "copy"]:
                os.unlink(at(name))
            closed.clear()
            os.unlink(os.path.join(disk, "foreign"))
            again = CHANCE.randbytes(20_000_000)
            wait_until("there is room again", lambda: not self.is_refused(lambda: write(at("again"), again)), 60, 0.2)
            os.pwrite(held, again, 0)
            os.fsync(held)
            os.close(held)
            is_whole()
            for name in ("again", "held"):
                self.assertEqual(read(os.path.join(there, name)), again)
            for peer in m.peers:
                self.assertTrue(peer.alive())
                peer.stop()
            self.assertIn("no problem found", m[1].check())


if __name__ == "__main__":
    mesh.main()
