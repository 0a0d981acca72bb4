"""Real work in the tree: on a volume that another peer owns, and again at its owner.

Three peers: peer1 works, peer2 looks on, peer3 owns /far; /near is peer1's own. Each check runs in both. Short form: small sizes,
under a minute or so; long form (EFS_LONG=1): the full ones. Each prints `figure <check>_<where>_s`.
"""
import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import random
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import tempfile
import threading
import time
import unittest

import mesh
from mesh import ENVIRONMENT, LIBC, LONG, TOP, DirectoryEach, Mesh, NearAndFar, read, run, write

NOREPLACE, EXCHANGE = 1, 2
AT_FDCWD = -100
SOURCES = ["usr/include", "usr/share/perl"] if LONG else ["usr/include/c++/12/bits", "usr/share/perl/5.36.0/unicore"]
MANY_FILES = 200_000 if LONG else 2_000
TRANSACTIONS = 2_000 if LONG else 50


def rename(old, new, flags):
    if LIBC.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def as_user(code, uid, gid, groups=()):
    """Runs Python code as another user: its output, or the name of the errno that ended it."""
    wrapped = "import os,errno,sys\ntry:\n" + "".join(f"  {line}\n" for line in code.splitlines()) + \
        "except OSError as e:\n  print(errno.errorcode[e.errno])\n"
    return run("/usr/bin/python3", "-c", wrapped, user=uid, group=gid, extra_groups=list(groups)).stdout.strip()


class Work(DirectoryEach):
    """The checks; a subclass says where."""

    def timed(self, what, action):
        start = time.monotonic()
        result = action()
        self.figure(what, time.monotonic() - start)
        return result

    # ---- programs ----

    def test_unpack_and_compare(self):
        self.timed("unpack", lambda: run("bash", "-c", f"set -o pipefail; tar -C / -cf - {' '.join(SOURCES)} | tar -C {self.here} -xf -",
                                         timeout=1200))
        for source in SOURCES:
            found = self.timed("diff", lambda s=source: run("diff", "-r", "--no-dereference", f"/{s}", os.path.join(self.there, s), timeout=1200))
            self.assertEqual(found.stdout, "")
        self.timed("remove", lambda: run("rm", "-r", os.path.join(self.here, "usr"), timeout=600))
        self.assertEqual(os.listdir(self.there), [])

    def clone(self):
        repository = os.path.join(self.here, "efs")
        run("git", "clone", "-q", f"file://{TOP}", repository, env=ENVIRONMENT, timeout=300)
        return repository

    def test_git(self):
        repository = self.clone()
        git = lambda *words, at=repository: run("git", "-C", at, *words, env=ENVIRONMENT).stdout
        self.assertEqual(git("status", "--porcelain"), "")
        write(os.path.join(repository, "added"), b"x\n" * 1000)
        with open(os.path.join(repository, "README.md"), "a") as readme:
            readme.write("one more line\n")
        git("add", "-A")
        git("commit", "-qm", "a change")
        git("mv", "README.md", "README")
        git("commit", "-qm", "a rename")
        git("gc", "-q")
        self.assertEqual(git("status", "--porcelain"), "")
        other = os.path.join(self.there, "efs")
        for at in (repository, other):
            git("fsck", "--full", at=at)
            self.assertEqual(git("status", "--porcelain", at=at), "")
        self.assertEqual(git("log", "--format=%s", "-2", at=other), "a rename\na change\n")

    def test_build(self):
        source = self.clone()
        build = os.path.join(source, "build")
        run("cmake", "-S", source, "-B", build, "-G", "Unix Makefiles", "-DCMAKE_BUILD_TYPE=Release", "-DEFS_TESTS=OFF",
            "-DCMAKE_CXX_COMPILER_LAUNCHER=", env=ENVIRONMENT, timeout=600)
        run("make", "-C", build, "-j2", "-s", *([] if LONG else ["efs_base"]), env=ENVIRONMENT, timeout=7200)
        if LONG:
            version = run(self.mesh[1].path(self.prefix, self._testMethodName, "efs", "build", "peer", "efs-peer"), "--version")
            self.assertIn("efs", version.stdout)
        again = run("make", "-C", build, *([] if LONG else ["efs_base"]), env=ENVIRONMENT, timeout=600).stdout
        self.assertNotIn("Building", again)  # modification times are kept as make needs them

    def test_sqlite(self):
        for journal in ("delete", "wal"):
            path = os.path.join(self.here, journal + ".db")
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
                self.assertEqual(database.execute(f"PRAGMA journal_mode={journal}").fetchone()[0], journal)
                database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, value TEXT, n INTEGER)")
                database.execute("CREATE INDEX i ON t (n)")
                start = time.monotonic()
                for number in range(TRANSACTIONS):
                    database.execute("BEGIN IMMEDIATE")
                    database.execute("INSERT INTO t VALUES (?, ?, ?)", (number, "v" * (number % 500), number * 7 % 1000))
                    database.execute("UPDATE t SET n = n + 1 WHERE id = ?", (number // 2,))
                    database.execute("COMMIT")
                self.figure(f"sqlite_{journal}", TRANSACTIONS / (time.monotonic() - start), "transactions_per_s")
                self.assertEqual(database.execute("PRAGMA integrity_check").fetchone()[0], "ok")
            with contextlib.closing(sqlite3.connect(os.path.join(self.there, journal + ".db"))) as database:
                self.assertEqual(database.execute("PRAGMA integrity_check").fetchone()[0], "ok")
                self.assertEqual(database.execute("SELECT count(*) FROM t").fetchone()[0], TRANSACTIONS)

    def test_fio(self):
        sizes = ["4k", "64k", "1m"] if LONG else ["4k", "1m"]
        for direct in (0, 1):
            for pattern in ("write", "randwrite", "randrw"):
                for size in sizes:
                    total = ("256m" if size != "4k" else "32m") if LONG else ("16m" if size != "4k" else "2m")
                    out = run("fio", "--name=v", f"--directory={self.here}", f"--rw={pattern}", f"--bs={size}", f"--size={total}", "--numjobs=2",
                              f"--direct={direct}", "--ioengine=psync", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1",
                              "--end_fsync=1", "--output-format=json", "--group_reporting", "--unlink=1", "--thread", timeout=1200)
                    job = json.loads(out.stdout[out.stdout.index("{"):])["jobs"][0]
                    self.assertEqual(job["error"], 0)
                    self.figure(f"fio_{'direct' if direct else 'buffered'}_{pattern}_{size}", job["write"]["bw_bytes"] / 1e6, "MB_per_s")

    # ---- sizes ----

    def test_sparse_file(self):
        path = os.path.join(self.here, "sparse")
        end = 8 << 30
        data = {offset: random.Random(offset).randbytes(size) for offset, size in
                [(0, 10), (4096, 4096), ((1 << 20) - 5, 10), ((4 << 30) - 70_000, 140_000), (end - 3_000_000, 3_000_000)]}
        with open(path, "wb") as file:
            for offset, content in data.items():
                os.pwrite(file.fileno(), content, offset)
        for at in (path, os.path.join(self.there, "sparse")):
            info = os.stat(at)
            self.assertEqual(info.st_size, end)
            self.assertLess(info.st_blocks * 512, 8_000_000)
            self.assertGreaterEqual(info.st_blocks * 512, sum(map(len, data.values())) - 4096)
            descriptor = os.open(at, os.O_RDONLY)
            try:
                for offset, content in data.items():
                    self.assertEqual(os.pread(descriptor, len(content), offset), content)
                self.assertEqual(os.pread(descriptor, 1 << 20, 2 << 30), bytes(1 << 20))
                position, found = 0, []  # every byte that was written lies in a part that SEEK_DATA names
                while position < end:
                    begin = os.lseek(descriptor, position, os.SEEK_DATA)
                    position = os.lseek(descriptor, begin, os.SEEK_HOLE)
                    found.append((begin, position))
                for offset, content in data.items():
                    self.assertTrue(any(b <= offset and offset + len(content) <= e for b, e in found), (offset, found))
                self.assertLess(sum(e - b for b, e in found), 8_000_000)
            finally:
                os.close(descriptor)
        with open(path, "r+b") as file:
            punch = 0x3  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
            number = LIBC.fallocate(file.fileno(), punch, ctypes.c_long(4 << 30), ctypes.c_long(8192))
            self.assertEqual(number, 0)
        with open(os.path.join(self.there, "sparse"), "rb") as file:
            self.assertEqual(os.pread(file.fileno(), 8192, 4 << 30), bytes(8192))
            self.assertEqual(os.pread(file.fileno(), 70_000, (4 << 30) - 70_000), data[(4 << 30) - 70_000][:70_000])
        os.truncate(path, 100)
        self.assertEqual(os.stat(os.path.join(self.there, "sparse")).st_blocks * 512 <= 4096, True)

    def test_big_directory(self):
        def make():
            for number in range(MANY_FILES):
                os.close(os.open(os.path.join(self.here, f"file-{number:06d}"), os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o644))
        start = time.monotonic()
        make()
        self.figure("create", MANY_FILES / (time.monotonic() - start), "files_per_s")
        names = self.timed("list", lambda: os.listdir(self.there))
        self.assertEqual(len(names), MANY_FILES)
        self.assertEqual(set(names), {f"file-{number:06d}" for number in range(MANY_FILES)})
        directory = os.open(self.there, os.O_RDONLY)
        sizes = self.timed("list_with_attributes", lambda: [entry.stat(follow_symlinks=False).st_size for entry in os.scandir(directory)])
        os.close(directory)
        self.assertEqual(sizes, [0] * MANY_FILES)
        start = time.monotonic()
        run("rm", "-r", self.here, timeout=1200)
        self.figure("remove", MANY_FILES / (time.monotonic() - start), "files_per_s")
        self.assertFalse(os.path.exists(self.there))

    def test_long_names_and_paths(self):
        longest = "n" * 255
        write(os.path.join(self.here, longest), b"x")
        self.assertEqual(read(os.path.join(self.there, longest)), b"x")
        with self.assertRaises(OSError) as raised:
            write(os.path.join(self.here, longest + "n"), b"x")
        self.assertEqual(raised.exception.errno, errno.ENAMETOOLONG)
        umlauts = "ü" * 127
        os.mkdir(os.path.join(self.here, umlauts))
        self.assertIn(umlauts, os.listdir(self.there))
        raw = os.path.join(os.fsencode(self.here), b"\xff\xfe\n\t\"'")  # any bytes but / and 0
        with open(raw, "wb"):
            pass
        self.assertIn(b"\xff\xfe\n\t\"'", os.listdir(os.fsencode(self.there)))
        relative = "/".join(["d" * 249] * 16)  # 3,999 bytes
        os.chdir(self.here)
        try:
            os.makedirs(relative)
            write(relative + "/f", b"deep")
            os.chdir(self.there)
            self.assertEqual(read(relative + "/f"), b"deep")
        finally:
            os.chdir("/")
        shutil.rmtree(os.path.join(self.here, "d" * 249))

    def test_sequential_bytes(self):
        size = (1 << 30) if LONG else (64 << 20)
        path = os.path.join(self.here, "big")
        block = random.Random(1).randbytes(1 << 20)
        start = time.monotonic()
        with open(path, "wb", buffering=0) as file:
            for _ in range(size >> 20):
                file.write(block)
            os.fsync(file.fileno())
        self.figure("sequential_write_and_fsync", size / 1e6 / (time.monotonic() - start), "MB_per_s")
        start = time.monotonic()
        with open(os.path.join(self.there, "big"), "rb", buffering=0) as file:
            count = 0
            while got := file.read(1 << 20):
                self.assertEqual(got, block)
                count += len(got)
        self.assertEqual(count, size)
        self.figure("sequential_read_at_the_third", size / 1e6 / (time.monotonic() - start), "MB_per_s")

    # ---- system calls ----

    def test_mmap(self):
        path = os.path.join(self.here, "mapped")
        with open(path, "w+b") as file:
            file.truncate(3 << 20)
            with mmap.mmap(file.fileno(), 3 << 20) as memory:
                memory[0:5] = b"first"
                memory[(2 << 20) - 3:(2 << 20) + 3] = b"middle"
                memory.flush()
                self.assertEqual(os.pread(file.fileno(), 6, (2 << 20) - 3), b"middle")
                memory[100:104] = b"late"  # written back by munmap and close
        with open(os.path.join(self.there, "mapped"), "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
            self.assertEqual(memory[0:5], b"first")
            self.assertEqual(memory[100:104], b"late")
            self.assertEqual(memory[(2 << 20) - 3:(2 << 20) + 3], b"middle")
            self.assertEqual(memory[1000:2000], bytes(1000))
        shutil.copy("/bin/true", os.path.join(self.here, "program"))
        run(os.path.join(self.here, "program"))
        run(os.path.join(self.there, "program"))

    def test_append(self):
        path = os.path.join(self.here, "log")
        other = os.path.join(self.there, "log")
        failures = []

        def line(tag, number):
            return f"{tag}{number:04d} " + "." * (number * 7 % 150)  # some go over the end of a page

        def appender(at, tag):
            try:
                with open(at, "ab", buffering=0) as file:
                    for number in range(500):
                        file.write(line(tag, number).encode() + b"\n")
            except OSError as error:
                failures.append(error)

        def follower(at):
            """Reads what is there already, again and again: never what nobody wrote."""
            while not done.is_set():
                if set(read(at)) - set(b"abc0123456789 .\n"):
                    failures.append(f"{at}: other bytes")
                    return

        done = threading.Event()
        write(path, b"")
        following = [threading.Thread(target=follower, args=[at]) for at in (path, other)]
        threads = [threading.Thread(target=appender, args=(at, tag)) for at, tag in ((path, "a"), (path, "b"), (other, "c"))]
        for thread in threads + following:
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        for thread in following:
            thread.join()
        self.assertEqual(failures, [])
        for at in (path, other):
            lines = read(at).decode().splitlines()
            self.assertEqual(set(lines) ^ {line(tag, n) for tag in "abc" for n in range(500)}, set())
            self.assertEqual(len(lines), 1500)
            for tag in "abc":
                mine = [one for one in lines if one[0] == tag]
                self.assertEqual(mine, sorted(mine))

    def test_truncate(self):
        path, other = os.path.join(self.here, "t"), os.path.join(self.there, "t")
        write(path, b"0123456789" * 500_000)
        for size in (4_999_999, 1_048_577, 1_048_576, 1_048_575, 2048, 5, 0):
            os.truncate(path, size)
            self.assertEqual(read(other), (b"0123456789" * 500_000)[:size])
        write(path, b"abc")
        os.truncate(path, 3_000_000)
        self.assertEqual(read(other), b"abc" + bytes(2_999_997))
        with open(path, "r+b", buffering=0) as file:
            file.write(b"xyz" * 10)
            file.truncate(4)
            file.seek(8)
            file.write(b"end")
            self.assertEqual(os.fstat(file.fileno()).st_size, 11)
            self.assertEqual(os.pread(file.fileno(), 20, 0), b"xyzx\0\0\0\0end")
        self.assertEqual(read(other), b"xyzx\0\0\0\0end")
        with open(path, "wb") as file:  # O_TRUNC
            file.write(b"new")
        self.assertEqual(read(other), b"new")

    def test_rename(self):
        a, b = os.path.join(self.here, "a"), os.path.join(self.here, "b")
        write(a, b"a")
        write(b, b"b")
        with self.assertRaises(FileExistsError):
            rename(a, b, NOREPLACE)
        rename(a, b, EXCHANGE)
        self.assertEqual((read(os.path.join(self.there, "a")), read(os.path.join(self.there, "b"))), (b"b", b"a"))
        rename(a, os.path.join(self.here, "c"), NOREPLACE)
        os.rename(os.path.join(self.here, "c"), b)
        self.assertEqual(os.listdir(self.there), ["b"])
        self.assertEqual(read(os.path.join(self.there, "b")), b"b")
        os.makedirs(os.path.join(self.here, "x", "y"))
        with self.assertRaises(OSError) as raised:
            os.rename(os.path.join(self.here, "x"), os.path.join(self.here, "x", "y", "z"))
        self.assertEqual(raised.exception.errno, errno.EINVAL)
        os.mkdir(os.path.join(self.here, "empty"))
        with self.assertRaises(OSError) as raised:
            os.rename(os.path.join(self.here, "empty"), os.path.join(self.here, "x"))
        self.assertEqual(raised.exception.errno, errno.ENOTEMPTY)
        os.rename(os.path.join(self.here, "x", "y"), os.path.join(self.here, "empty"))
        self.assertEqual(sorted(os.listdir(self.there)), ["b", "empty", "x"])
        with self.assertRaises(OSError) as raised:
            os.rename(b, self.mesh[0].path("elsewhere"))
        self.assertEqual(raised.exception.errno, errno.EXDEV)
        with self.assertRaises(OSError) as raised:
            os.link(b, self.mesh[0].path("elsewhere"))
        self.assertEqual(raised.exception.errno, errno.EXDEV)
        # An open file goes on under its new name, here and there.
        with open(os.path.join(self.there, "b"), "rb") as reader, open(b, "ab") as writer:
            os.rename(b, os.path.join(self.here, "moved"))
            writer.write(b"more")
            writer.flush()
            os.fsync(writer.fileno())
            self.assertEqual(os.pread(reader.fileno(), 100, 0), b"bmore")

    def test_links_and_special_files(self):
        a, link = os.path.join(self.here, "a"), os.path.join(self.here, "link")
        write(a, b"a")
        os.link(a, link)
        self.assertEqual(os.stat(os.path.join(self.there, "a")).st_nlink, 2)
        self.assertEqual(os.stat(os.path.join(self.there, "a")).st_ino, os.stat(os.path.join(self.there, "link")).st_ino)
        os.unlink(a)
        self.assertEqual(os.stat(os.path.join(self.there, "link")).st_nlink, 1)
        self.assertEqual(read(os.path.join(self.there, "link")), b"a")
        os.symlink("link", os.path.join(self.here, "soft"))
        os.symlink("x" * 4000, os.path.join(self.here, "long"))
        self.assertEqual(read(os.path.join(self.there, "soft")), b"a")
        self.assertEqual(os.readlink(os.path.join(self.there, "long")), "x" * 4000)
        fifo = os.path.join(self.here, "fifo")
        os.mkfifo(fifo, 0o640)
        self.assertTrue(stat.S_ISFIFO(os.stat(os.path.join(self.there, "fifo")).st_mode))
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        with open(fifo, "wb", buffering=0) as out:
            out.write(b"through")
            self.assertEqual(os.read(reader, 100), b"through")
        os.close(reader)
        os.chdir(self.here)  # a socket's path is short
        try:
            with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
                server.bind("socket")
                server.listen()
                self.assertTrue(stat.S_ISSOCK(os.stat(os.path.join(self.there, "socket")).st_mode))
                client.connect("socket")
        finally:
            os.chdir("/")
        os.mknod(os.path.join(self.here, "null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
        info = os.stat(os.path.join(self.there, "null"))
        self.assertTrue(stat.S_ISCHR(info.st_mode))
        self.assertEqual(info.st_rdev, os.makedev(1, 3))
        with self.assertRaises(PermissionError):  # nodev
            read(os.path.join(self.there, "null"))
        block = os.path.join(self.here, "block")
        os.mknod(block, stat.S_IFBLK | 0o600, os.makedev(259, 70000))
        self.assertEqual(os.stat(os.path.join(self.there, "block")).st_rdev, os.makedev(259, 70000))

    def test_extended_attributes(self):
        path, other = os.path.join(self.here, "x"), os.path.join(self.there, "x")
        write(path, b"")
        os.setxattr(path, "user.one", b"1")
        os.setxattr(path, "user.large", b"v" * 60_000)
        self.assertEqual(os.getxattr(other, "user.one"), b"1")
        self.assertEqual(os.getxattr(other, "user.large"), b"v" * 60_000)
        self.assertEqual(set(os.listxattr(other)), {"user.one", "user.large"})
        with self.assertRaises(FileExistsError):
            os.setxattr(other, "user.one", b"2", os.XATTR_CREATE)
        with self.assertRaises(OSError) as raised:
            os.setxattr(other, "user.two", b"2", os.XATTR_REPLACE)
        self.assertEqual(raised.exception.errno, errno.ENODATA)
        os.setxattr(other, "user.one", b"two", os.XATTR_REPLACE)
        os.removexattr(path, "user.large")
        self.assertEqual(os.listxattr(other), ["user.one"])
        self.assertEqual(os.getxattr(path, "user.one"), b"two")

    def test_times_and_modes(self):
        path, other = os.path.join(self.here, "x"), os.path.join(self.there, "x")
        write(path, b"")
        os.utime(path, ns=(1_234_567_890_123_456_789, 987_654_321_000_000_001))
        info = os.stat(other)
        self.assertEqual((info.st_atime_ns, info.st_mtime_ns), (1_234_567_890_123_456_789, 987_654_321_000_000_001))
        os.utime(path, ns=(-5_000_000_001, -1))
        self.assertEqual(os.stat(other).st_mtime_ns, -1)
        before = os.stat(path).st_ctime_ns
        os.chmod(path, 0o4750)
        os.chown(path, 1234, 5678)
        info = os.stat(other)
        self.assertEqual((info.st_uid, info.st_gid), (1234, 5678))
        self.assertEqual(info.st_mode & 0o1777, 0o750)  # a change of owner clears setuid of a program
        self.assertGreater(info.st_ctime_ns, before)
        with open(path, "ab") as file:  # written, not yet sent: the times that are set then stay
            file.write(b"x")
            file.flush()
            os.utime(file.fileno(), ns=(1, 2_000_000_000))
        self.assertEqual(os.stat(other).st_mtime_ns, 2_000_000_000)
        time.sleep(0.02)
        now = time.time_ns()
        os.utime(path)
        self.assertLess(abs(os.stat(other).st_mtime_ns - now), 2_000_000_000)

    def test_unlinked_and_open(self):
        path, other = os.path.join(self.here, "gone"), os.path.join(self.there, "gone")
        content = os.urandom(300_000)
        write(path, content)
        with open(path, "r+b", buffering=0) as mine, open(other, "rb", buffering=0) as theirs:
            os.unlink(other)  # by the mount that did not make it
            self.assertEqual(os.listdir(self.here), [])
            self.assertEqual(mine.read(), content)
            self.assertEqual(theirs.read(), content)
            mine.write(b"more")
            os.fsync(mine.fileno())
            self.assertEqual(os.pread(theirs.fileno(), 100, 300_000), b"more")
            self.assertEqual(os.fstat(theirs.fileno()).st_nlink, 0)
            mine.close()
            self.assertEqual(os.pread(theirs.fileno(), 300_000, 0), content)
        with open(path, "w+b") as file:  # as tempfile does
            os.unlink(path)
            file.write(b"temporary" * 1000)
            file.seek(0)
            self.assertEqual(file.read(), b"temporary" * 1000)

    def test_one_mount_closes_another_opens(self):
        path, other = os.path.join(self.here, "x"), os.path.join(self.there, "x")
        for number in range(60):  # each sees at once what the other closed; sizes around all borders
            size = [0, 1, 2047, 2048, 2049, 4096, 65_537, 1_048_576, 1_048_577][number % 9]
            content = bytes([number + 1]) * size
            write(path, content)
            self.assertEqual(read(other), content)
            write(other, content + b"!")
            self.assertEqual(read(path), content + b"!")
        with open(path, "rb", buffering=0) as held:  # and in a file that stays open, after a stat
            write(other, b"second" * 50_000)
            os.fstat(held.fileno())
            self.assertEqual(os.pread(held.fileno(), 6, 0), b"second")
            self.assertEqual(os.pread(held.fileno(), 400_000, 0), b"second" * 50_000)

    def test_fsync_of_directories_and_locks(self):
        directory = os.open(self.here, os.O_RDONLY | os.O_DIRECTORY)
        write(os.path.join(self.here, "x"), b"x")
        os.fsync(directory)
        os.close(directory)
        with open(os.path.join(self.here, "x"), "r+b") as file, open(os.path.join(self.here, "x"), "r+b") as second:
            fcntl.flock(file, fcntl.LOCK_EX)
            with self.assertRaises(BlockingIOError):
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)
            fcntl.lockf(file, fcntl.LOCK_EX)
        os.sync()

    def test_space(self):
        of_mesh = os.statvfs(self.mesh[0].mount)
        of_volume = os.statvfs(self.here)
        self.assertEqual(of_volume.f_namemax, 255)
        self.assertGreater(of_mesh.f_blocks * of_mesh.f_frsize, 1 << 30)
        self.assertGreater(of_volume.f_bavail, 0)
        used = lambda: (lambda s: (s.f_blocks - s.f_bfree) * s.f_frsize)(os.statvfs(self.there))
        before, files = used(), os.statvfs(self.there).f_files - os.statvfs(self.there).f_ffree
        write(os.path.join(self.here, "x"), os.urandom(8 << 20))
        self.assertGreaterEqual(used() - before, 7 << 20)
        self.assertGreaterEqual(os.statvfs(self.there).f_files - os.statvfs(self.there).f_ffree, files + 1)
        self.assertGreaterEqual(of_mesh.f_blocks, of_volume.f_blocks)

    def test_as_another_user(self):
        secret, shared, mine = (os.path.join(self.here, name) for name in ("secret", "shared", "mine"))
        write(secret, b"s")
        os.chmod(secret, 0o600)
        write(shared, b"shared")
        os.chown(shared, 0, 4242)
        os.chmod(shared, 0o640)
        self.assertEqual(as_user(f"open({secret!r}).read()", 1001, 1001), "EACCES")
        self.assertEqual(as_user(f"open({shared!r}).read()", 1001, 1001), "EACCES")
        self.assertEqual(as_user(f"print(open({shared!r}).read())", 1001, 4242), "shared")
        self.assertEqual(as_user(f"print(open({shared!r}).read())", 1001, 1001, [7, 4242]), "shared")
        self.assertEqual(as_user(f"open({shared!r}, 'a')", 1001, 1001, [4242]), "EACCES")
        self.assertEqual(as_user(f"os.chmod({shared!r}, 0o666)", 1001, 1001, [4242]), "EPERM")
        self.assertEqual(as_user(f"open({mine!r}, 'w').write('m')", 1001, 1002), "")
        info = os.stat(os.path.join(self.there, "mine"))
        self.assertEqual((info.st_uid, info.st_gid), (1001, 1002))
        self.assertEqual(as_user(f"os.chown({mine!r}, 1002, -1)", 1001, 1002), "EPERM")
        self.assertEqual(as_user(f"os.chown({mine!r}, -1, 77)", 1001, 1002, [77]), "")
        os.chmod(self.here, 0o1777)  # sticky
        self.assertEqual(as_user(f"os.unlink({mine!r})", 1003, 1003), "EPERM")
        closed = os.path.join(self.here, "closed")
        os.mkdir(closed, 0o700)
        write(os.path.join(closed, "x"), b"")
        self.assertEqual(as_user(f"os.stat({os.path.join(closed, 'x')!r})", 1001, 1001), "EACCES")
        self.assertEqual(as_user(f"os.listdir({closed!r})", 1001, 1001), "EACCES")
        os.chmod(closed, 0o2770)  # set-group-id: what is made inside has the group
        os.chown(closed, 0, 4242)
        inside = os.path.join(closed, "y")
        self.assertEqual(as_user(f"open({inside!r}, 'w')\nos.mkdir({inside + 'd'!r})", 1001, 1001, [4242]), "")
        self.assertEqual(os.stat(inside).st_gid, 4242)
        self.assertEqual(os.stat(inside + "d").st_mode & 0o2000, 0o2000)
        self.assertEqual(as_user(f"os.unlink({mine!r})", 1001, 1002), "")


class AtTheOwner(Work, NearAndFar):
    where, prefix = "owner", "near"
    if not LONG:
        test_build = None  # once is enough


class Elsewhere(Work, NearAndFar):
    where, prefix = "elsewhere", "far"


# Works in a file at argv[1] for argv[2] seconds while a timer's signals come; prints the calls that failed.
UNDER_SIGNALS = """
import ctypes, os, signal, sys, time
libc = ctypes.CDLL(None, use_errno=True)
signal.signal(signal.SIGALRM, lambda *_: None)
signal.siginterrupt(signal.SIGALRM, True)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
end, path, failed, rounds = time.monotonic() + float(sys.argv[2]), sys.argv[1].encode(), set(), 0
def call(name, *words):
    result = getattr(libc, name)(*words)
    if result < 0:
        failed.add((name, os.strerror(ctypes.get_errno())))
    return result
while time.monotonic() < end:
    file = call("open", path, os.O_RDWR | os.O_CREAT, 0o644)
    call("write", file, b"x" * 100000, 100000)
    call("fsync", file)
    call("pread", file, ctypes.create_string_buffer(100000), 100000, 0)
    call("close", file)
    call("rename", path, path + b"2")
    call("unlink", path + b"2")
    rounds += 1
signal.setitimer(signal.ITIMER_REAL, 0)
print(rounds, sorted(failed))
"""


# Opens 20 files, waits for a line, writes to each, and keeps them open.
HOLDER = """
import os, sys
files = [os.open(sys.argv[1] + str(n), os.O_WRONLY | os.O_CREAT) for n in range(20)]
print("open", flush=True)
sys.stdin.readline()
for file in files:
    os.write(file, os.urandom(100000))
print("written", flush=True)
sys.stdin.readline()
"""


class OwnerAway(unittest.TestCase):
    """Signals, and a stop with bytes that cannot be sent: the owner of /far does not answer."""

    def test_signals_that_a_program_handles_interrupt_nothing(self):
        with Mesh(2) as m:
            out = run("/usr/bin/python3", "-c", UNDER_SIGNALS, m[1].path("x"), "3").stdout
            rounds, failed = out.split(" ", 1)
            self.assertEqual(failed.strip(), "[]")
            self.assertGreater(int(rounds), 5)

    def test_a_killed_program_ends_and_the_peer_stops_within_5_seconds(self):
        for how in (signal.SIGSTOP, signal.SIGKILL):
            with Mesh(3, unreachable_timeout=60) as m:
                m[0].efs("volume", "create", "/far", "--on", "peer3", "--yes")
                write(m[0].path("near"), b"near")
                holder = subprocess.Popen(["/usr/bin/python3", "-c", HOLDER, m[0].path("far", "x")], stdin=subprocess.PIPE,
                                          stdout=subprocess.PIPE, text=True)
                self.assertEqual(holder.stdout.readline(), "open\n")
                m[2].signal(how)
                holder.stdin.write("\n")
                holder.stdin.flush()
                self.assertEqual(holder.stdout.readline(), "written\n")
                waiting = [subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for words in
                           (["cat", m[0].path("far", "x1")], ["ls", m[0].path("far")], ["touch", m[0].path("far", "new")],
                            ["dd", "if=/dev/zero", "of=" + m[0].path("far", "x2"), "bs=1M", "count=100"])]
                time.sleep(1)
                self.assertEqual(read(m[0].path("near")), b"near")  # the rest of the tree serves
                for process in waiting:
                    self.assertIsNone(process.poll(), f"{process.args} did not wait")
                start = time.monotonic()
                for process in waiting[:2]:
                    process.kill()
                    process.wait(10)
                self.assertLess(time.monotonic() - start, 2)
                for process in waiting[2:]:
                    process.terminate()
                    process.wait(10)
                self.assertLess(time.monotonic() - start, 4.5)  # a change that is on its way: kInterruptGrace
                start = time.monotonic()
                m[0].stop(10)
                taken = time.monotonic() - start
                print(f"figure stop_with_owner_away_s {taken:.2f}", flush=True)
                self.assertLess(taken, 5)
                self.assertFalse(mesh.is_mounted(m[0].mount))
                holder.kill()
                holder.communicate(timeout=10)

    def test_bytes_wait_for_the_owner(self):
        with Mesh(3, unreachable_timeout=60) as m:
            m[0].efs("volume", "create", "/far", "--on", "peer3", "--yes")
            content = os.urandom(3_000_000)
            with open(m[0].path("far", "x"), "wb", buffering=0) as file:
                file.write(content[:1_000_000])
                m[2].kill()
                file.write(content[1_000_000:])
                starter = threading.Timer(2, m[2].run)
                starter.start()
                os.fsync(file.fileno())  # waits, and goes on
                starter.join()
            self.assertEqual(read(m[1].path("far", "x")), content)


class CopiesElsewhere(unittest.TestCase):
    """copy_file_range within a volume is the owner's work: no bytes travel, none are stored again."""
    SIZE = 64 << 20

    @staticmethod
    def moved(peer):
        """Bytes over the peer's link, both ways."""
        link, = json.loads(run("ip", "-n", peer.namespace, "-json", "-statistics", "link", "show", "eth0").stdout)
        return sum(link["stats64"][way]["bytes"] for way in ("rx", "tx"))

    def test_neither_sends_nor_stores_anything(self):
        disk = tempfile.mkdtemp(prefix="efs-test-")  # whose room nobody else takes
        self.addCleanup(os.rmdir, disk)
        run("mount", "-t", "tmpfs", "-o", "size=600M", "efs-test", disk)
        self.addCleanup(run, "umount", "-l", disk)
        with Mesh(2, namespaces=True, start=False) as m:
            here, owner = m.peers
            owner.extra = ["--store", os.path.join(disk, "chunks")]
            m.start()
            here.efs("volume", "create", "/far", "--on", "peer2", "--yes")
            far = here.path("far")

            def figures(what, action):
                """What action moves, and how much room it takes."""
                before, room = self.moved(here), os.statvfs(far).f_bavail
                action()
                space = os.statvfs(far)
                moved, taken = self.moved(here) - before, (room - space.f_bavail) * space.f_frsize
                print(f"figure {what} {moved} bytes moved, {taken} stored", flush=True)
                return moved, taken

            content = os.urandom(self.SIZE)
            with open(here.path("far", "source"), "w+b", buffering=0) as source, open(here.path("far", "copy"), "wb") as copy:
                def fill():
                    self.assertEqual(source.write(content), self.SIZE)
                    os.fsync(source.fileno())

                def copy_all():
                    done = 0
                    while done < self.SIZE:
                        count = os.copy_file_range(source.fileno(), copy.fileno(), self.SIZE - done, done, done)
                        self.assertGreater(count, 0)
                        done += count
                    os.fsync(copy.fileno())

                # What is counted, counts.
                moved, taken = figures("write", fill)
                self.assertGreater(moved, self.SIZE)
                self.assertGreater(taken, self.SIZE - (4 << 20))
                moved, taken = figures("copy", copy_all)
                self.assertLess(moved, 1 << 20)
                self.assertLess(taken, 4 << 20)
            os.unlink(here.path("far", "source"))
            for peer in (owner, here):
                self.assertTrue(read(peer.path("far", "copy")) == content)  # too long to be shown


if __name__ == "__main__":
    mesh.main()
