#!/usr/bin/python3
"""A volume of this process under a real FUSE mount: real work, and every call that a mount answers itself.

usage: fuse_local_test.py PATH-TO-fuse_local [unittest arguments]      (root; EFS_LONG=1: larger trees, fio)
"""
import ctypes
import errno
import mmap
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import mesh
from mesh import LIBC

PROGRAM = os.path.abspath(sys.argv.pop(1) if len(sys.argv) > 1 else "build/release/test/fuse_local")
LONG = bool(os.environ.get("EFS_LONG"))
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2


def fill(path, data):
    with open(path, "wb") as file:
        file.write(data)


def content(path):
    with open(path, "rb") as file:
        return file.read()


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120, **options).stdout


def renameat2(old, new, flags):
    if LIBC.renameat2(-100, old.encode(), -100, new.encode(), flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


class Mounted:
    """fuse_local at a fresh directory."""

    def __init__(self, *options):
        self.base = tempfile.mkdtemp(prefix="efs-fuse-test-")
        self.dir = os.path.join(self.base, "mount")
        self.data = os.path.join(self.base, "data")
        os.mkdir(self.data)
        self.options = options
        self.start()

    def start(self):
        self.process = subprocess.Popen([PROGRAM, self.dir, self.data, *self.options], stdout=subprocess.PIPE,
                                        text=True)
        line = self.process.stdout.readline().strip()
        if line != "mounted":
            raise RuntimeError(f"fuse_local said '{line}'")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.ended = self.process.stdout.read().strip()
        status = self.process.wait(timeout=20)
        self.process.stdout.close()
        return status

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        subprocess.run(["umount", "-l", self.dir], capture_output=True)
        shutil.rmtree(self.base, ignore_errors=True)


class MountCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mounted = Mounted("--volumes")

    @classmethod
    def tearDownClass(cls):
        try:
            if cls.mounted.stop() != 0:
                raise RuntimeError("fuse_local did not end well")
        finally:
            cls.mounted.close()

    def setUp(self):
        self.dir = os.path.join(self.mounted.dir, self._testMethodName)
        os.mkdir(self.dir)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def fails(self, number, call, *arguments, **named):
        with self.assertRaises(OSError) as raised:
            call(*arguments, **named)
        self.assertEqual(errno.errorcode[raised.exception.errno], errno.errorcode[number])


class Work(MountCase):
    def test_untar_and_compare(self):
        source = "/usr/include" if LONG else "/usr/include/linux"
        run("sh", "-c", f"tar cf - -C {source} . | tar xf - -C {self.dir}")
        run("diff", "-r", source, self.dir)
        names = run("find", self.dir)
        self.assertEqual(len(names.split("\n")), len(run("find", source).split("\n")))
        run("tar", "cf", self.path("all.tar"), "-C", source, ".")
        run("sh", "-c", f"tar df {self.path('all.tar')} -C {source}")

    def test_git(self):
        env = {**os.environ, "HOME": self.dir, "GIT_CONFIG_NOSYSTEM": "1"}
        if shutil.which("git") is None:
            self.skipTest("no git")
        run("git", "init", "-q", self.path("repo"))
        for i in range(60):
            fill(self.path("repo", f"f{i}"), os.urandom(3000) * (i + 1))
        for arguments in (["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"],
                          ["gc", "-q"], ["fsck", "--strict"]):
            run("git", "-C", self.path("repo"), *arguments, env=env)
        run("git", "clone", "-q", self.path("repo"), self.path("copy"), env=env)
        self.assertEqual(run("git", "-C", self.path("copy"), "status", "--porcelain", env=env), "")

    def test_sqlite(self):
        import sqlite3
        for journal in ("delete", "wal"):
            with sqlite3.connect(self.path(journal)) as base:
                base.execute(f"pragma journal_mode={journal}")
                base.execute("create table t(a integer primary key, b blob)")
                for i in range(60):
                    base.execute("insert into t(b) values (?)", (os.urandom(2000),))
                    base.commit()
                self.assertEqual(base.execute("pragma integrity_check").fetchone()[0], "ok")
            base.close()

    def test_fio_verifies(self):
        if shutil.which("fio") is None:
            self.skipTest("no fio")
        size = "64m" if LONG else "8m"
        for rw, bs, direct in (("write", "1m", 0), ("randwrite", "4k", 0), ("randwrite", "4k", 1),
                               ("randrw", "64k", 0)):
            run("fio", "--name=v", f"--directory={self.dir}", f"--size={size}", f"--rw={rw}", f"--bs={bs}",
                f"--direct={direct}", "--numjobs=2", "--verify=crc32c", "--verify_fatal=1", "--ioengine=psync",
                "--fallocate=none", "--end_fsync=1")

    def test_large_directory(self):
        count = 20000
        for i in range(count):
            os.close(os.open(self.path(f"entry-{i:06d}"), os.O_CREAT | os.O_WRONLY))
        names = os.listdir(self.dir)
        self.assertEqual(len(names), count)
        self.assertEqual(len(set(names)), count)
        # Removing while listing: what stays is seen exactly once.
        seen = []
        with os.scandir(self.dir) as entries:
            for i, entry in enumerate(entries):
                seen.append(entry.name)
                if i % 2 == 0:
                    os.unlink(entry.path)
        self.assertEqual(len(seen), count)
        self.assertEqual(len(os.listdir(self.dir)), count // 2)
        run("rm", "-rf", self.dir)


class Calls(MountCase):
    def test_write_is_read_before_and_after_close(self):
        path = self.path("f")
        with open(path, "w+b", buffering=0) as file:
            file.write(b"hello")
            self.assertEqual(os.stat(path).st_size, 5)
            self.assertEqual(content(path), b"hello")
            os.pwrite(file.fileno(), b"END", 3_000_000)
            self.assertEqual(os.fstat(file.fileno()).st_size, 3_000_003)
            self.assertEqual(os.pread(file.fileno(), 10, 2_999_998), b"\0\0END")
        self.assertEqual(len(content(path)), 3_000_003)
        self.assertLess(os.stat(path).st_blocks * 512, 1 << 20)

    def test_names(self):
        name = "n" * 255
        fill(self.path(name), b"x")
        self.assertEqual(os.listdir(self.dir), [name])
        self.fails(errno.ENAMETOOLONG, open, self.path(name + "n"), "w")
        deep = self.dir
        os.chdir(deep)
        try:
            for _ in range(16):
                os.mkdir("d" * 250)
                os.chdir("d" * 250)
            fill("leaf", b"deep")
            self.assertEqual(content("leaf"), b"deep")
        finally:
            os.chdir("/")
        run("rm", "-rf", deep)

    def test_rename(self):
        fill(self.path("a"), b"a")
        fill(self.path("b"), b"b")
        self.fails(errno.EEXIST, renameat2, self.path("a"), self.path("b"), RENAME_NOREPLACE)
        renameat2(self.path("a"), self.path("b"), RENAME_EXCHANGE)
        self.assertEqual(content(self.path("a")), b"b")
        os.rename(self.path("a"), self.path("b"))
        self.assertEqual(content(self.path("b")), b"b")
        self.fails(errno.ENOENT, os.stat, self.path("a"))
        os.mkdir(self.path("d"))
        os.mkdir(self.path("d", "e"))
        self.fails(errno.EINVAL, os.rename, self.path("d"), self.path("d", "e", "f"))
        self.fails(errno.EISDIR, os.rename, self.path("b"), self.path("d"))
        os.mkdir(self.path("g"))
        os.rename(self.path("d", "e"), self.path("g", "e"))
        self.assertEqual(os.stat(self.path("g", "e", "..")).st_ino, os.stat(self.path("g")).st_ino)
        self.assertEqual(os.stat(self.path("d")).st_nlink, 2)
        self.fails(errno.ENOTEMPTY, os.rmdir, self.path("g"))

    def test_links(self):
        fill(self.path("a"), b"1")
        os.link(self.path("a"), self.path("b"))
        self.assertEqual(os.stat(self.path("a")).st_nlink, 2)
        with open(self.path("b"), "ab") as file:
            file.write(b"2")
        self.assertEqual(content(self.path("a")), b"12")
        os.unlink(self.path("a"))
        self.assertEqual(os.stat(self.path("b")).st_nlink, 1)
        os.symlink("b", self.path("s"))
        self.assertEqual(os.readlink(self.path("s")), "b")
        self.assertEqual(content(self.path("s")), b"12")
        self.fails(errno.ENOENT, open, self.path("none"), "rb")

    def test_unlinked_but_open(self):
        with open(self.path("f"), "w+b", buffering=0) as file:
            file.write(b"still")
            os.unlink(self.path("f"))
            self.fails(errno.ENOENT, os.stat, self.path("f"))
            file.write(b" here")
            os.fsync(file.fileno())
            self.assertEqual(os.pread(file.fileno(), 100, 0), b"still here")
            self.assertEqual(os.fstat(file.fileno()).st_nlink, 0)

    def test_xattrs(self):
        path = self.path("f")
        fill(path, b"")
        os.setxattr(path, "user.a", b"value")
        os.setxattr(path, "user.b", b"x" * 4000)
        self.assertEqual(os.getxattr(path, "user.a"), b"value")
        self.assertEqual(sorted(os.listxattr(path)), ["user.a", "user.b"])
        self.fails(errno.EEXIST, os.setxattr, path, "user.a", b"", os.XATTR_CREATE)
        self.fails(errno.ENODATA, os.setxattr, path, "user.c", b"", os.XATTR_REPLACE)
        os.removexattr(path, "user.a")
        self.fails(errno.ENODATA, os.getxattr, path, "user.a")

    def test_labels(self):
        path = self.path("f")
        fill(path, b"")
        self.fails(errno.EOPNOTSUPP, os.getxattr, path, "security.selinux")  # ls -l then asks no more
        os.setxattr(path, "security.selinux", b"a:b:c:s0")
        self.assertEqual(os.getxattr(path, "security.selinux"), b"a:b:c:s0")
        os.removexattr(path, "security.selinux")
        self.fails(errno.EOPNOTSUPP, os.getxattr, path, "security.selinux")

    def test_truncate(self):
        path = self.path("f")
        with open(path, "w+b", buffering=0) as file:
            file.write(b"x" * 100_000)
            os.ftruncate(file.fileno(), 10)
            self.assertEqual(os.fstat(file.fileno()).st_size, 10)
            os.ftruncate(file.fileno(), 5000)
            self.assertEqual(os.pread(file.fileno(), 6000, 0), b"x" * 10 + b"\0" * 4990)
        os.truncate(path, 3)
        self.assertEqual(content(path), b"xxx")
        fill(path, b"new")
        self.assertEqual(content(path), b"new")
        with open(path, "r+b") as file:
            os.truncate(path, 2 ** 40)
            self.assertEqual(os.fstat(file.fileno()).st_size, 2 ** 40)

    def test_sparse(self):
        path = self.path("f")
        with open(path, "w+b", buffering=0) as file:
            os.pwrite(file.fileno(), b"a" * 4096, 8 << 30)
            self.assertEqual(os.lseek(file.fileno(), 0, os.SEEK_DATA), 8 << 30)
            self.assertEqual(os.lseek(file.fileno(), 0, os.SEEK_HOLE), 0)
            self.fails(errno.ENXIO, os.lseek, file.fileno(), (8 << 30) + 4096, os.SEEK_DATA)
            self.assertEqual(os.pread(file.fileno(), 10, 1 << 30), b"\0" * 10)
        self.assertLess(os.stat(path).st_blocks * 512, 1 << 20)

    def test_fallocate(self):
        path = self.path("f")
        with open(path, "w+b", buffering=0) as file:
            file.write(b"x" * 100_000)
            run("fallocate", "-p", "-o", "4096", "-l", "8192", path)
            self.assertEqual(os.pread(file.fileno(), 8194, 4095), b"x" + b"\0" * 8192 + b"x")
            os.posix_fallocate(file.fileno(), 0, 200_000)
            self.assertEqual(os.fstat(file.fileno()).st_size, 200_000)
            run("fallocate", "-n", "-l", "300000", path)
            self.assertEqual(os.fstat(file.fileno()).st_size, 200_000)

    def test_append(self):
        path = self.path("f")
        fill(path, b"")

        def write(letter):
            with open(path, "ab", buffering=0) as file:
                for _ in range(200):
                    file.write(letter * 50)

        threads = [threading.Thread(target=write, args=(bytes([65 + i]),)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        data = content(path)
        self.assertEqual(len(data), 4 * 200 * 50)
        for i in range(0, len(data), 50):
            self.assertEqual(data[i:i + 50], data[i:i + 1] * 50)

    def test_mmap(self):
        path = self.path("f")
        fill(path, b"\0" * 20000)
        with open(path, "r+b") as file:
            with mmap.mmap(file.fileno(), 20000) as memory:
                memory[5000:5005] = b"mmap!"
                memory.flush()
                self.assertEqual(content(path)[5000:5005], b"mmap!")
                memory[10000:10002] = b"ok"
        self.assertEqual(content(path)[10000:10002], b"ok")

    def test_times_and_modes(self):
        path = self.path("f")
        with open(path, "wb", buffering=0) as file:
            file.write(b"x")
            os.utime(file.fileno(), ns=(1_000_000_000_123_456_789, 1_100_000_000_987_654_321))
        found = os.stat(path)  # the write came before: it does not bring its own time back
        self.assertEqual(found.st_mtime_ns, 1_100_000_000_987_654_321)
        self.assertEqual(found.st_atime_ns, 1_000_000_000_123_456_789)
        os.chmod(path, 0o4755)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o4755)
        os.chown(path, 1000, 1001)
        self.assertEqual((os.stat(path).st_uid, os.stat(path).st_gid), (1000, 1001))

    def test_special_files(self):
        os.mkfifo(self.path("fifo"))
        self.assertTrue(stat.S_ISFIFO(os.stat(self.path("fifo")).st_mode))
        os.mknod(self.path("null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
        self.assertEqual(os.stat(self.path("null")).st_rdev, os.makedev(1, 3))
        self.fails(errno.EACCES, open, self.path("null"), "rb")  # nodev

    def test_exclusive_create(self):
        os.close(os.open(self.path("f"), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        self.fails(errno.EEXIST, os.open, self.path("f"), os.O_CREAT | os.O_EXCL)
        self.assertEqual(stat.S_IMODE(os.stat(self.path("f")).st_mode), 0o600)

    def test_other_users(self):
        os.chmod(self.dir, 0o755)
        fill(self.path("secret"), b"x")
        os.chmod(self.path("secret"), 0o640)
        os.chown(self.path("secret"), 0, 4242)
        os.mkdir(self.path("shared"))
        os.chmod(self.path("shared"), 0o2775)
        os.chown(self.path("shared"), 0, 4242)
        script = f"""
import os
os.setgroups([4242]); os.setgid(7000); os.setuid(7000)
assert open('{self.path("secret")}').read() == 'x'
open('{self.path("shared", "mine")}', 'w').write('by group')
try:
    open('{self.path("denied")}', 'w')
except PermissionError:
    print('refused')
"""
        os.chmod(self.mounted.base, 0o755)
        self.assertEqual(run(sys.executable, "-c", script).strip(), "refused")
        made = os.stat(self.path("shared", "mine"))
        self.assertEqual((made.st_uid, made.st_gid), (7000, 4242))

    def test_direct_and_sync(self):
        path = self.path("f")
        file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_DIRECT)
        memory = mmap.mmap(-1, 8192)
        memory[:] = b"d" * 8192
        self.assertEqual(os.write(file, memory), 8192)
        self.assertEqual(content(path), b"d" * 8192)
        os.close(file)
        file = os.open(path, os.O_RDWR | os.O_DSYNC)
        os.pwrite(file, b"sync", 2)
        os.close(file)
        self.assertEqual(content(path)[:8], b"ddsyncdd")

    def test_volumes(self):
        second = os.path.join(self.mounted.dir, "second")
        fill(os.path.join(second, "f"), b"there")
        self.assertEqual(content(os.path.join(second, "f")), b"there")
        self.assertEqual(os.stat(second).st_ino, 1 << 44 | 1)
        fill(self.path("f"), b"here")
        self.fails(errno.EXDEV, os.rename, self.path("f"), os.path.join(second, "g"))
        self.fails(errno.EXDEV, os.link, self.path("f"), os.path.join(second, "g"))
        self.fails(errno.EBUSY, os.rmdir, second)
        self.assertIn("second", os.listdir(self.mounted.dir))
        run("mv", self.path("f"), os.path.join(second, "moved"))
        self.assertEqual(content(os.path.join(second, "moved")), b"here")

    def test_statfs(self):
        space = os.statvfs(self.dir)
        self.assertEqual(space.f_namemax, 255)
        self.assertGreater(space.f_bavail * space.f_frsize, 1 << 30)
        options = run("findmnt", "-no", "OPTIONS,FSTYPE", self.mounted.dir)
        for wanted in ("nosuid", "nodev", "fuse.efs"):
            self.assertIn(wanted, options)


class MountPoint(unittest.TestCase):
    def setUp(self):
        self.mounted = Mounted()
        self.addCleanup(self.mounted.close)

    def refused(self, directory):
        data = tempfile.mkdtemp(dir=self.mounted.base)
        done = subprocess.run([PROGRAM, directory, data], capture_output=True, text=True, timeout=20)
        self.assertEqual(done.returncode, 1)
        return done.stderr.strip()

    def test_a_stale_mount_is_replaced(self):
        fill(os.path.join(self.mounted.dir, "f"), b"x")
        held = open(os.path.join(self.mounted.dir, "f"), "rb")
        self.mounted.process.kill()
        self.mounted.process.wait()
        self.mounted.process.stdout.close()
        with self.assertRaises(OSError) as raised:
            os.listdir(self.mounted.dir)
        self.assertEqual(raised.exception.errno, errno.ENOTCONN)
        self.mounted.data = tempfile.mkdtemp(dir=self.mounted.base)
        self.mounted.start()
        self.assertEqual(os.listdir(self.mounted.dir), [])
        held.close()
        self.assertEqual(self.mounted.stop(), 0)
        self.assertFalse(os.path.ismount(self.mounted.dir))

    def test_wrong_directories(self):
        base = self.mounted.base
        self.assertIn("another peer", self.refused(self.mounted.dir))
        self.assertIn("mkdir -p", self.refused(os.path.join(base, "no", "such")))
        fill(os.path.join(base, "file"), b"")
        self.assertIn("not a directory", self.refused(os.path.join(base, "file")))
        os.makedirs(os.path.join(base, "full", "x"))
        self.assertIn("not empty", self.refused(os.path.join(base, "full")))
        self.assertIn("in use", self.refused("/proc"))

    def test_unmounted_from_outside(self):
        run("umount", self.mounted.dir)
        self.assertEqual(self.mounted.process.wait(timeout=10), 0)
        self.assertIn("unmounted from outside", self.mounted.process.stdout.read())
        self.mounted.process.stdout.close()

    def test_ends_while_files_are_open(self):
        path = os.path.join(self.mounted.dir, "f")
        file = os.open(path, os.O_CREAT | os.O_WRONLY)
        os.write(file, b"x" * 1000)
        started = time.time()
        self.assertEqual(self.mounted.stop(), 0)
        self.assertLess(time.time() - started, 5)
        self.assertFalse(os.path.ismount(self.mounted.dir))
        for call in (os.fsync, os.close):
            with self.assertRaises(OSError):
                call(file)


if __name__ == "__main__":
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        sys.exit("fuse_local_test.py needs root and /dev/fuse")
    mesh.main()
