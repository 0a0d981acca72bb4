"""A disk that does not answer holds up who reads from it, and nobody else.

The chunk store lies on a FUSE filesystem of our own (test/bench/mirror.cc) whose process is stopped: what is read from it
waits, as from a dying disk. Meanwhile the mount goes on for what needs no chunk.
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import mesh
from mesh import Mesh

ANSWERED_S = 2.0
BLOCK = 4096
STAT = "import os, sys; os.stat(sys.argv[1]); os.mkdir(sys.argv[1] + '.new')"


class Disk:
    """A directory that can be made to hang."""

    def __init__(self):
        self.base = tempfile.mkdtemp(prefix="efs-disk-")
        self.path = os.path.join(self.base, "disk")
        source = os.path.join(self.base, "source")
        os.makedirs(self.path)
        os.makedirs(source)
        self.process = subprocess.Popen([os.path.join(mesh.BUILD, "test", "mirror"), source, self.path, "--threads", "4"])
        deadline = time.monotonic() + 10
        while not os.path.ismount(self.path):
            if time.monotonic() > deadline:
                raise AssertionError("the mirror does not mount")
            time.sleep(0.02)

    def hang(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.go_on()
        subprocess.run(["umount", "-l", self.path], check=False)
        self.process.terminate()
        self.process.wait(10)
        shutil.rmtree(self.base)


class SlowDisk(unittest.TestCase):
    def test_a_read_that_hangs_holds_up_nobody_else(self):
        with Disk() as disk, Mesh(1, start=False) as m:
            try:
                m[0].extra = ["--store", disk.path]
                m.start()
                name = m[0].path("large")
                content = os.urandom(4 << 20)
                with open(name, "wb") as file:
                    file.write(content)
                    os.fsync(file.fileno())
                os.mkdir(m[0].path("other"))
                handle = os.open(name, os.O_RDONLY)
                for _ in range(2):
                    with open("/proc/sys/vm/drop_caches", "w") as file:
                        file.write("3")
                # One program that asks one thing after another, so that nobody is woken beside it.
                places = [number * 8 * BLOCK for number in range(60)]
                for at in places:
                    self.assertEqual(os.pread(handle, BLOCK, at), content[at:at + BLOCK])
                seen = {}

                def other_program():
                    time.sleep(0.3)
                    began = time.monotonic()
                    try:
                        seen["status"] = subprocess.run([sys.executable, "-c", STAT, m[0].path("other")], timeout=20,
                                                        check=False).returncode
                    finally:
                        seen["took"] = time.monotonic() - began
                        disk.go_on()

                helper = threading.Thread(target=other_program)
                helper.start()
                disk.hang()
                began = time.monotonic()
                last = os.pread(handle, BLOCK, 3 << 20)
                waited = time.monotonic() - began
                helper.join()
                os.close(handle)
                self.assertEqual(seen["status"], 0)
                self.assertGreater(waited, 0.3, "the read was answered by a disk that hangs")
                self.assertLess(seen["took"], ANSWERED_S)
                self.assertEqual(last, content[3 << 20:(3 << 20) + BLOCK])
            finally:
                disk.go_on()


if __name__ == "__main__":
    mesh.main()
