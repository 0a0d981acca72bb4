"""Files that were written in small pieces are joined in the background, and nobody can tell.

Three peers: /near is peer1's volume, /far peer3's; peer1 writes to both, peer2 reads all the while. In the end all are checked.
"""
import json
import os
import random
import signal
import threading
import time
import unittest

import mesh
from mesh import LONG, NearAndFar, wait_until

CHANCE = random.Random(mesh.fresh_seed())
BLOCK = 4096
SIZE = (64 if LONG else 16) << 20


class Reader(threading.Thread):
    """Holds a file open on another mount and reads random parts of it, from its owner; what differs is kept."""

    def __init__(self, path, content):
        super().__init__()
        self.path, self.content = path, content
        self.reads, self.wrong, self.ending = 0, None, False
        self.start()

    def run(self):
        try:
            fd = os.open(self.path, os.O_RDONLY)
            while not self.ending:
                at, length = CHANCE.randrange(len(self.content)), CHANCE.randrange(1, 1 << 20)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                if os.pread(fd, length, at) != self.content[at:at + length]:
                    self.wrong = f"{length} bytes at {at}"
                    return
                self.reads += 1
                time.sleep(0.02)
            os.close(fd)
        except OSError as error:
            self.wrong = str(error)

    def end(self):
        self.ending = True
        self.join()
        return self.wrong


class Compaction(NearAndFar):
    def extents(self, path):
        return json.loads(self.mesh[0].efs("where", path, "--json").stdout)["extents"]

    def chunks(self, peer):
        """That the peer's store holds."""
        return sum(s["chunks"] for s in json.loads(self.mesh[peer].efs("store", "ls", "--json").stdout)["stores"])

    def scatter(self, path, content):
        """Every block once, in random order; synced now and then, so that they are not put in order before."""
        order = list(range(len(content) // BLOCK))
        CHANCE.shuffle(order)
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        for number, block in enumerate(order):
            os.pwrite(fd, content[block * BLOCK:(block + 1) * BLOCK], block * BLOCK)
            if number % 500 == 499:
                os.fsync(fd)
        os.fsync(fd)
        os.close(fd)

    def read(self, peer, *names):
        with open(self.mesh[peer].path(*names), "rb") as file:
            return file.read()

    def case(self, prefix, owner):
        content = CHANCE.randbytes(SIZE)
        self.scatter(self.mesh[0].path(prefix, "file"), content)
        stat = os.stat(self.mesh[1].path(prefix, "file"))
        before = self.extents(f"/{prefix}/file")
        reader = Reader(self.mesh[1].path(prefix, "file"), content)
        started = time.monotonic()
        try:
            wait_until("the extents are joined", lambda: self.extents(f"/{prefix}/file") == SIZE >> 20, 90)
            took = time.monotonic() - started
            time.sleep(3)  # the old chunks are freed under the reader
        finally:
            wrong = reader.end()
        self.assertIsNone(wrong)
        self.assertGreater(reader.reads, 20)
        self.assertGreater(before, SIZE // BLOCK // 2)
        after = os.stat(self.mesh[1].path(prefix, "file"))
        for field in ("st_size", "st_blocks", "st_mtime_ns", "st_ctime_ns", "st_ino"):
            self.assertEqual(getattr(after, field), getattr(stat, field), field)
        for peer in range(3):
            self.assertEqual(self.read(peer, prefix, "file"), content)
        wait_until("the space is given back", lambda: self.chunks(owner) <= (SIZE >> 20) + 4, 30)
        self.mesh[owner].signal(signal.SIGKILL)
        wait_until("the owner is killed", lambda: not self.mesh[owner].alive())
        self.mesh[owner].run()
        self.assertEqual(self.extents(f"/{prefix}/file"), SIZE >> 20)
        self.assertEqual(self.read(owner, prefix, "file"), content)
        print(f"figure compaction_{prefix}_s {took:.1f} s, {before} extents to {SIZE >> 20}, "
              f"{reader.reads} reads meanwhile", flush=True)

    def test_written_and_compacted_at_the_owner(self):
        self.case("near", 0)

    def test_written_elsewhere(self):
        self.case("far", 2)

    def test_writes_go_on_meanwhile(self):
        """A file that is never left alone: overwritten, cut, punched and copied while it is joined."""
        names = [os.path.join(prefix, "busy") for prefix in ("near", "far")]
        contents = {name: bytearray() for name in names}
        until = time.monotonic() + (120 if LONG else 12)
        files = {name: os.open(self.mesh[0].path(name), os.O_RDWR | os.O_CREAT, 0o644) for name in names}
        while time.monotonic() < until:
            for name, fd in files.items():
                content = contents[name]
                for _ in range(CHANCE.randrange(60)):
                    at, piece = CHANCE.randrange(0, 3 << 20), CHANCE.randbytes(CHANCE.randrange(1, 6000))
                    content.extend(bytes(max(0, at + len(piece) - len(content))))
                    content[at:at + len(piece)] = piece
                    os.pwrite(fd, piece, at)
                if CHANCE.random() < 0.05:
                    size = CHANCE.randrange(3 << 20)
                    content.extend(bytes(max(0, size - len(content))))
                    del content[size:]
                    os.truncate(fd, size)
                os.fsync(fd)
            time.sleep(0.05)
        for name, fd in files.items():
            os.close(fd)
            for peer in range(3):
                self.assertEqual(self.read(peer, name), contents[name])
        for name in names:
            os.unlink(self.mesh[0].path(name))  # whose chunks would be counted by the others


if __name__ == "__main__":
    mesh.main()
