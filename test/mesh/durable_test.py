"""Each way in which a program asks for durability reaches the disk: at the owner's mount, and elsewhere.

Each peer's data lies on a disk of its own: a loop device, whose count of flush requests nobody else adds to. A step
changes something and asks that it be durable. It cannot be answered before a flush that began after its change has
ended, so N steps, one after the other, are N flushes of the owner's disk at least. The same writes without asking
(the control) are a few: those of the background.
"""
import mmap
import os
import tempfile
import unittest

import mesh
from mesh import Mesh, run

STEPS = 200 if mesh.LONG else 40
BLOCK = 4096
LARGE = 256 << 10
DISK_MIB = 600


class Disk:
    """An ext4 on a loop device over memory, at .path."""

    def __init__(self, case):
        base = tempfile.mkdtemp(prefix="efs-test-")  # not below the mesh, which is deleted while this is mounted
        case.addClassCleanup(os.rmdir, base)
        run("mount", "-t", "tmpfs", "-o", f"size={DISK_MIB + 10}M", "efs-test", base)
        case.addClassCleanup(run, "umount", "-l", base)
        image, self.path = os.path.join(base, "image"), os.path.join(base, "disk")
        with open(image, "wb") as file:
            file.truncate(DISK_MIB << 20)
        run("mkfs.ext4", "-q", "-F", image)
        attached = run("losetup", "--find", "--show", image, check=False)
        if attached.returncode != 0:
            raise unittest.SkipTest(f"no loop device here: {attached.stderr.strip()}")
        device = attached.stdout.strip()
        case.addClassCleanup(run, "losetup", "--detach", device)
        self.counts = f"/sys/block/{os.path.basename(device)}/stat"
        os.mkdir(self.path)
        run("mount", device, self.path)
        case.addClassCleanup(run, "umount", self.path)
        self.proves_its_count()

    def flushes(self):
        with open(self.counts) as file:
            return int((file.read().split() + ["0"] * 16)[15])

    def proves_its_count(self):
        """Of a file of ext4 itself."""
        file = os.open(os.path.join(self.path, "own"), os.O_CREAT | os.O_WRONLY)
        before = self.flushes()
        for number in range(10):
            os.pwrite(file, bytes(BLOCK), number * BLOCK)
            os.fsync(file)
        os.close(file)
        if self.flushes() - before < 10:
            raise unittest.SkipTest("this kernel does not count the flushes of a loop device")


class Durable(unittest.TestCase):
    """peer1 works; /near is its own, /far is peer2's."""

    @classmethod
    def setUpClass(cls):
        cls.disks = [Disk(cls), Disk(cls)]
        cls.mesh = Mesh(len(cls.disks), start=False)
        cls.addClassCleanup(cls.mesh.close)  # runs before its disks are unmounted
        for peer, disk in zip(cls.mesh.peers, cls.disks):
            peer.data = os.path.join(disk.path, "data")
        cls.mesh.start()
        cls.mesh[0].efs("volume", "create", "/near", "--on", "peer1", "--yes")
        cls.mesh[0].efs("volume", "create", "/far", "--on", "peer2", "--yes")

    def flushes(self, prefix, action):
        """Of the disk of the volume's owner, while action(number) is done for each step."""
        disk = self.disks[("near", "far").index(prefix)]
        before = disk.flushes()
        for number in range(STEPS):
            action(number)
        count = disk.flushes() - before
        print(f"figure {self._testMethodName.removeprefix('test_')}_{prefix} {count} flushes, {STEPS} steps", flush=True)
        return count

    def flushes_of_a_file(self, prefix, step, flags):
        """While step(file, number) is called; the file has room for all."""
        path = self.mesh[0].path(prefix, self._testMethodName)
        with open(path, "wb") as file:
            file.truncate(STEPS * BLOCK)
            os.fsync(file.fileno())
        file = os.open(path, os.O_RDWR | flags)
        try:
            return self.flushes(prefix, lambda number: step(file, number))
        finally:
            os.close(file)

    def reaches_the_disk(self, step, flags=0):
        for prefix in ("near", "far"):
            with self.subTest(prefix):
                self.assertGreaterEqual(self.flushes_of_a_file(prefix, step, flags), STEPS)
                with open(self.mesh[1].path(prefix, self._testMethodName), "rb") as file:
                    if flags & os.O_APPEND:
                        file.seek(STEPS * BLOCK)
                    self.assertEqual(file.read(), b"".join(map(block, range(STEPS))))

    def is_flushed(self, step, flags=0, each=1):
        for prefix in ("near", "far"):
            with self.subTest(prefix):
                self.assertGreaterEqual(self.flushes_of_a_file(prefix, step, flags), each * STEPS)

    def names_reach_the_disk(self, change):
        """change(directory, number); number -1 before the steps."""
        for prefix in ("near", "far"):
            with self.subTest(prefix):
                here = self.mesh[0].path(prefix, self._testMethodName)
                os.mkdir(here)
                change(here, -1)
                directory = os.open(here, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(directory)
                    count = self.flushes(prefix, lambda number: (change(here, number), os.fsync(directory)))
                finally:
                    os.close(directory)
                self.assertGreaterEqual(count, STEPS)
                self.assertIn(str(STEPS - 1), os.listdir(self.mesh[1].path(prefix, self._testMethodName)))

    def test_control(self):
        """What nobody asks for is not flushed one by one: the counts of the others are of their asking."""
        for prefix in ("near", "far"):
            with self.subTest(prefix):
                self.assertLess(self.flushes_of_a_file(prefix, write, 0), STEPS // 2)

    def test_fsync(self):
        self.reaches_the_disk(lambda file, number: (write(file, number), os.fsync(file)))

    def test_fsync_of_a_chunk(self):
        """The log only names what is large: two files are to be flushed, the chunk's and then the log's."""
        self.is_flushed(lambda file, number: (os.pwrite(file, os.urandom(LARGE), number * LARGE), os.fsync(file)), each=2)

    def test_fdatasync(self):
        self.reaches_the_disk(lambda file, number: (write(file, number), os.fdatasync(file)))

    def test_fsync_of_another_descriptor(self):
        """As a database's checkpointer does: it syncs what others have written."""
        def step(file, number):
            write(file, number)
            other = os.open(f"/proc/self/fd/{file}", os.O_RDONLY)
            os.fsync(other)
            os.close(other)
        self.reaches_the_disk(step)

    def test_fsync_of_what_another_mount_has_written(self):
        for prefix in ("near", "far"):
            with self.subTest(prefix):
                def step(file, number):
                    with open(self.mesh[1].path(prefix, self._testMethodName), "r+b", buffering=0) as other:
                        os.pwrite(other.fileno(), block(number), number * BLOCK)
                    os.fsync(file)
                self.assertGreaterEqual(self.flushes_of_a_file(prefix, step, 0), STEPS)

    def test_what_another_mount_writes_between_and_a_stat(self):
        """A stat brings a lease again; it says nothing of what came before."""
        for prefix in ("near", "far"):
            with self.subTest(prefix):
                def step(file, number):
                    for half in (0, 1):
                        with open(self.mesh[1].path(prefix, self._testMethodName), "r+b", buffering=0) as other:
                            os.pwrite(other.fileno(), block(number + half), number * BLOCK)
                        if half:
                            os.fstat(file)
                        os.fsync(file)
                self.assertGreaterEqual(self.flushes_of_a_file(prefix, step, 0), 2 * STEPS)

    def test_z_what_another_mount_has_not_sent_yet(self):
        """Its process is killed after the fsync here."""
        here, there = (peer.path("far", self._testMethodName) for peer in self.mesh.peers)
        with open(here, "wb") as file:
            other = os.open(there, os.O_RDWR)
            for number in range(8):
                write(other, number)
            os.fsync(file.fileno())
            self.mesh[1].kill()
            with self.assertRaises(OSError):  # its mount is gone
                os.close(other)
            self.mesh[1].start("run")
        with open(here, "rb") as file:
            self.assertEqual(file.read(), b"".join(map(block, range(8))))

    def test_fallocate_with_o_dsync(self):
        self.is_flushed(lambda file, number: os.posix_fallocate(file, (STEPS + number) * BLOCK, BLOCK), os.O_DSYNC)

    def test_copy_file_range_with_o_sync(self):
        self.is_flushed(lambda file, number: os.copy_file_range(file, file, BLOCK, 0, (STEPS + number) * BLOCK), os.O_SYNC)

    def test_o_sync(self):
        self.reaches_the_disk(write, os.O_SYNC)

    def test_o_dsync(self):
        self.reaches_the_disk(write, os.O_DSYNC)

    def test_o_dsync_and_o_append(self):
        self.reaches_the_disk(append, os.O_DSYNC | os.O_APPEND)

    def test_o_direct_and_o_dsync(self):
        with mmap.mmap(-1, BLOCK) as page:  # it begins with a page
            def step(file, number):
                page[:] = block(number)
                self.assertEqual(os.pwritev(file, [page], number * BLOCK), BLOCK)
            self.reaches_the_disk(step, os.O_DIRECT | os.O_DSYNC)

    def test_rwf_dsync(self):
        self.reaches_the_disk(lambda file, number: os.pwritev(file, [block(number)], number * BLOCK, os.RWF_DSYNC))

    def test_rwf_sync(self):
        self.reaches_the_disk(lambda file, number: os.pwritev(file, [block(number)], number * BLOCK, os.RWF_SYNC))

    def test_msync(self):
        def step(file, number):
            with mmap.mmap(file, STEPS * BLOCK) as memory:
                memory[number * BLOCK:(number + 1) * BLOCK] = block(number)
                memory.flush(number * BLOCK, BLOCK)
        self.reaches_the_disk(step)

    def test_fsync_of_a_directory_after_a_rename(self):
        def change(here, number):
            if number < 0:
                os.close(os.open(os.path.join(here, "-1"), os.O_CREAT | os.O_WRONLY))
            else:
                os.rename(os.path.join(here, str(number - 1)), os.path.join(here, str(number)))
        self.names_reach_the_disk(change)

    def test_fsync_of_a_directory_after_a_mkdir(self):
        self.names_reach_the_disk(lambda here, number: os.mkdir(os.path.join(here, str(number))))


def block(number):
    return bytes([number % 251 + 1]) * BLOCK


def write(file, number):
    os.pwrite(file, block(number), number * BLOCK)


def append(file, number):
    os.write(file, block(number))


if __name__ == "__main__":
    mesh.main()
