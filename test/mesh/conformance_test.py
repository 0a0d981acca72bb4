"""The calls of the standard, on real mounts: test/conformance on ext4 (which proves it), at a volume's owner, elsewhere, and
acting through one mount while looking through another. And file handles that outlive their mount.

Each prints `figure <where>_s`. What may fail stands in test/conformance/known.txt, with why.
"""
import ctypes
import os
import shutil
import subprocess
import tempfile
import time
import unittest

import mesh
from mesh import BUILD, LIBC, TOP, Mesh, NearAndFar, run

PROGRAM = os.path.join(BUILD, "test", "conformance")
KNOWN = os.path.join(TOP, "test", "conformance", "known.txt")


class Conformance(NearAndFar):
    def conforms(self, where, here, there=None, known=True):
        name = f"conformance-{where}"
        os.mkdir(os.path.join(here, name))
        words = [PROGRAM, os.path.join(here, name)] + ([os.path.join(there, name)] if there else []) + \
            ["--where", where] + (["--known", KNOWN] if known else [])
        start = time.monotonic()
        done = run(*words, check=False, timeout=900)
        lines = [line for line in done.stdout.splitlines() if not line.startswith("ok ")]
        print("\n".join(f"{where}: {line}" for line in lines), flush=True)
        print(f"figure {where}_s {time.monotonic() - start:.1f}", flush=True)
        self.assertEqual(done.returncode, 0, f"{where}: {lines[-1] if lines else done.stderr}")

    def test_ext4_agrees(self):
        directory = tempfile.mkdtemp(prefix="efs-test-")
        try:
            os.chmod(directory, 0o755)
            kind = subprocess.run(["stat", "-f", "-c", "%T", directory], capture_output=True, text=True, check=True).stdout
            self.assertEqual(kind.strip(), "ext2/ext3", "the directory for temporary files is not on ext4")
            self.conforms("ext4", directory, known=False)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def test_at_the_owner(self):
        self.conforms("owner", self.mesh[0].path("near"))

    def test_elsewhere(self):
        self.conforms("elsewhere", self.mesh[0].path("far"))

    def test_two_mounts(self):
        self.conforms("two_elsewhere", self.mesh[0].path("far"), self.mesh[1].path("far"))

    def test_two_mounts_acting_at_the_owner(self):
        self.conforms("owner_and_elsewhere", self.mesh[0].path("near"), self.mesh[1].path("near"))

    def test_two_mounts_looking_at_the_owner(self):
        self.conforms("elsewhere_and_owner", self.mesh[1].path("near"), self.mesh[0].path("near"))


class Handles(unittest.TestCase):
    """A file handle (as an NFS server keeps it) leads to its file after the mount, and the owner, began anew."""

    @staticmethod
    def handle_of(path):
        handle = ctypes.create_string_buffer(8 + 128)
        ctypes.cast(handle, ctypes.POINTER(ctypes.c_uint))[0] = 128
        mount = ctypes.c_int()
        if LIBC.name_to_handle_at(-100, os.fsencode(path), handle, ctypes.byref(mount), 0) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
        return handle

    @staticmethod
    def open_handle(mount, handle):
        root = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fd = LIBC.open_by_handle_at(root, handle, os.O_RDONLY)
            if fd < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            return fd
        finally:
            os.close(root)

    def test_over_a_remount(self):
        with Mesh(2) as m:
            m[0].efs("volume", "create", "/far", "--on", "peer2", "--yes")
            for where in ("far", "."):
                os.makedirs(m[0].path(where, "a", "b"))
                with open(m[0].path(where, "a", "b", "file"), "w") as file:
                    file.write(where)
            handles = {where: [self.handle_of(m[0].path(where, *name)) for name in (("a", "b", "file"), ("a", "b"), ("a",))]
                       for where in ("far", ".")}
            for peer in m.peers:
                peer.stop()
            for peer in m.peers:
                peer.run()
            for where, (file, inner, outer) in handles.items():
                with os.fdopen(self.open_handle(m[0].mount, file)) as opened:
                    self.assertEqual(opened.read(), where)
                directory = self.open_handle(m[0].mount, inner)
                self.assertEqual(os.listdir(directory), ["file"])
                self.assertTrue(os.path.samestat(os.stat("..", dir_fd=directory), os.stat(m[0].path(where, "a"))))
                os.close(directory)
                directory = self.open_handle(m[0].mount, outer)
                self.assertEqual(os.listdir(directory), ["b"])
                os.close(directory)


if __name__ == "__main__":
    mesh.main()
