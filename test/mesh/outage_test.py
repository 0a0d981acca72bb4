"""Outages: links down, connections broken, peers stopped, frozen and gone; and the README's commands as typed.

What each case shows is in its name. While an owner cannot be reached, what needs it waits, can be interrupted, and
fails with a clear errno; everything else goes on; and when the owner is back, so does this, without a remount, with
what was written meanwhile. Peers have network namespaces, so a link that is down loses packets and breaks nothing.
"""
import concurrent.futures
import contextlib
import errno
import json
import os
import re
import signal
import stat
import subprocess
import threading
import time
import unittest

import mesh
from mesh import EFS, KEYS, LONG, PEER, Mesh, NearAndFar, is_mounted, run, wait_until

PATIENCE = 2  # s: vfs.unreachable_timeout here
FROZEN = 15 if LONG else 11.5  # s: connections are given up after 10
UNREACHABLE = (errno.EHOSTUNREACH, errno.ETIMEDOUT)

LIST_IN_TWO_PARTS = """
import os, sys
entries = os.scandir(sys.argv[1])
next(entries)
os.write(1, b"1")
os.read(0, 1)
list(entries)
"""


SYNC_TWICE = """
import errno, os, signal, sys, time
def interrupted(*_):
    raise InterruptedError()
def sync(file):
    try:
        os.fsync(file)
        print("fine", flush=True)
    except InterruptedError:
        print("interrupted", flush=True)
    except OSError as error:
        print(errno.errorcode[error.errno], flush=True)
signal.signal(signal.SIGALRM, interrupted)
file = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
os.write(file, b"A" * 1000)
os.fsync(file)
time.sleep(0.3)
os.pwrite(file, b"B" * 1000, 0)
print("buffered", flush=True)
sys.stdin.readline()
signal.alarm(1)
sync(file)
sync(file)
"""


def read(path):
    with open(path) as file:
        return file.read()


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def took(action):
    """Seconds that it took, and the errno that it failed with or None."""
    start = time.monotonic()
    try:
        action()
    except OSError as error:
        return time.monotonic() - start, error.errno
    return time.monotonic() - start, None


def interrupted_after(name, *words):
    """Seconds from a signal to the end of a program that waits."""
    start = time.monotonic()
    done = run("timeout", "-s", name, "0.5", *words, check=False)
    if time.monotonic() - start < 0.45:
        raise AssertionError(f"{words} did not wait: {done.stderr}")
    return time.monotonic() - start - 0.5


class Case(unittest.TestCase):
    def unreachable(self, action, longest=PATIENCE * 3 + 2):
        """The kernel asks up to three times: whether a name that it knows is still there, for the name anew, for the file."""
        seconds, number = took(action)
        self.assertIn(number, UNREACHABLE)
        self.assertLess(seconds, longest)
        return seconds

    def goes_on(self, what, action, seconds=20):
        """It may fail for a while after the cause is gone; then it works."""
        def works():
            try:
                return action() is not False
            except OSError:
                return False
        wait_until(what, works, seconds)


class CutOff(Case):
    def test_an_owner_behind_a_dead_link(self):
        with Mesh(3, unreachable_timeout=PATIENCE, namespaces=True) as m:
            owner, here, other = m.peers
            write(here.path("old"), "old")
            os.mkdir(here.path("d"))
            held = open(here.path("held"), "w+")  # pylint: disable=consider-using-with
            held.write("before\n")
            held.flush()
            os.fsync(held.fileno())
            os.stat(here.path("old"))
            m.cut(owner)
            self.assertEqual(os.stat(here.path("old")).st_size, 3)  # leased: believed until its lease ends
            time.sleep(2)

            # The first to notice asks over a session that looks alive.
            self.assertLess(interrupted_after("INT", "cat", here.path("old")), 0.5)
            # Waiting ends at the timeout, with an errno that says why.
            self.assertGreater(self.unreachable(lambda: os.stat(here.path("old"))), PATIENCE - 1)
            self.unreachable(lambda: os.mkdir(here.path("new")))
            self.unreachable(lambda: os.listdir(here.path("d")))
            # And at a signal, at once.
            for name in ("INT", "KILL"):
                self.assertLess(interrupted_after(name, "mkdir", here.path("never")), 0.5)
                self.assertLess(interrupted_after(name, "cat", here.path("old")), 0.5)
                self.assertLess(interrupted_after(name, "ls", here.path("d")), 0.5)
            # The owner itself goes on.
            write(owner.path("at-owner"), "meanwhile")

            # What is written waits in the mount: close says that it is not there yet, and it is kept.
            held.write("during\n")
            held.flush()
            self.unreachable(lambda: os.fsync(held.fileno()))

            # Unmounting works, with and without bytes that wait.
            elsewhere = os.path.join(m.base, "elsewhere")
            os.mkdir(elsewhere)
            start = time.monotonic()
            run(*inside(other), EFS, "umount", other.mount, "--socket", other.socket)
            self.assertLess(time.monotonic() - start, 5)
            self.assertFalse(is_mounted(other.mount))
            run(*inside(other), EFS, "mount", elsewhere, "--socket", other.socket)
            self.assertTrue(is_mounted(elsewhere))
            run(*inside(other), EFS, "umount", elsewhere, "--socket", other.socket)
            run(*inside(other), EFS, "mount", other.mount, "--socket", other.socket)

            # Status tells, and does not hang.
            start = time.monotonic()
            status = here.status()
            self.assertLess(time.monotonic() - start, 4)
            self.assertEqual(status["health"], "HEALTH_ERR")
            self.assertTrue(any("volume / is unreachable" in reason for reason in status["reasons"]), status["reasons"])
            self.assertTrue(any("peer1 is down" in reason for reason in status["reasons"]), status["reasons"])

            m.cut(owner, off=False)
            self.goes_on("the mount", lambda: os.stat(here.path("old")))
            self.goes_on("the fsync", lambda: os.fsync(held.fileno()))
            held.write("after\n")
            held.flush()
            os.fsync(held.fileno())
            self.assertEqual(read(owner.path("held")), "before\nduring\nafter\n")
            self.assertEqual(read(here.path("at-owner")), "meanwhile")
            self.goes_on("the other's mount", lambda: os.stat(other.path("old")))
            self.assertEqual(read(other.path("held")), "before\nduring\nafter\n")
            held.close()
            os.mkdir(here.path("new"))
            wait_until("all is well", lambda: all(p["state"] == "up" for p in here.status()["peers"]))

    def test_written_and_closed_behind_a_dead_link_arrives_later(self):
        with Mesh(2, unreachable_timeout=PATIENCE, namespaces=True) as m:
            owner, here = m.peers
            file = open(here.path("f"), "w")  # pylint: disable=consider-using-with
            file.write("x" * 3_000_000)
            m.cut(owner)
            file.write("y" * 3_000_000)
            self.unreachable(file.close, PATIENCE * 2 + 2)  # flush of the rest, then close
            m.cut(owner, off=False)
            self.goes_on("the rest", lambda: os.stat(owner.path("f")).st_size == 6_000_000)
            self.assertEqual(read(owner.path("f")), "x" * 3_000_000 + "y" * 3_000_000)

            # A peer that is asked to stop while it has bytes for an owner that is away gives up in time.
            held = open(here.path("g"), "w")  # pylint: disable=consider-using-with
            m.cut(owner)
            held.write("never")
            held.flush()
            start = time.monotonic()
            here.stop(10)
            self.assertLess(time.monotonic() - start, 5)
            self.assertFalse(is_mounted(here.mount))
            with self.assertRaises(OSError):
                held.close()
            m.cut(owner, off=False)


    def test_an_fsync_that_was_interrupted_leaves_its_error_to_the_next(self):
        """The bytes are refused, since others wrote meanwhile; a signal ends the first fsync, a second one waits for the link."""
        with Mesh(3, unreachable_timeout=30, namespaces=True) as m:
            here, other, owner = m.peers
            here.efs("volume", "create", "/far", "--on", owner.name, "--yes")
            program = subprocess.Popen(["/usr/bin/python3", "-c", SYNC_TWICE, here.path("far", "f")], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True)
            with program:
                self.assertEqual(program.stdout.readline(), "buffered\n")
                m.cut(here)
                program.stdin.write("\n")
                program.stdin.flush()
                with open(other.path("far", "f"), "r+b") as file:
                    file.write(b"C" * 10)
                self.assertEqual(program.stdout.readline(), "interrupted\n")
                time.sleep(0.5)
                m.cut(here, off=False)
                self.assertEqual(program.stdout.readline(), "EIO\n")
            self.assertEqual(read(other.path("far", "f"))[:12], "CCCCCCCCCCAA")


class Broken(Case):
    """Connections that break again and again, under load: each change is made once, and answered as made."""

    def test_exactly_once(self):
        seconds = 60 if LONG else 8
        with Mesh(2, unreachable_timeout=60, namespaces=True) as m:
            owner, here = m.peers
            end = time.monotonic() + seconds
            failures, counts = [], []

            def work(number):
                base = here.path(f"w{number}")
                done = 0
                try:
                    os.mkdir(base)
                    while time.monotonic() < end:
                        a, b, c, d = (os.path.join(base, f"{kind}{done}") for kind in "abcd")
                        os.close(os.open(a, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
                        os.link(a, b)
                        os.rename(a, c)
                        os.mkdir(d)
                        os.symlink("x", os.path.join(d, "s"))
                        with open(c, "ab") as file:
                            file.write(b"once")
                        os.unlink(os.path.join(d, "s"))
                        os.rmdir(d)
                        os.unlink(b)
                        done += 1
                except OSError as error:
                    failures.append(f"thread {number}, round {done}: {error!r}")
                counts.append(done)

            threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
            for thread in threads:
                thread.start()
            breaks = 0
            while time.monotonic() < end:
                for peer in (owner, here):
                    run("ip", "netns", "exec", peer.namespace, "ss", "-K", "-t", "( sport = :7400 or dport = :7400 )", check=False)
                breaks += 1
                time.sleep(0.05 + (breaks % 5) * 0.1)
            for thread in threads:
                thread.join(90)
                self.assertFalse(thread.is_alive())
            print(f"figure exactly_once rounds {sum(counts)} operations {sum(counts) * 9} breaks {breaks}")
            self.assertEqual(failures, [])
            self.assertGreater(breaks, seconds)
            self.assertGreater(sum(counts), seconds)
            for number in range(4):
                names = sorted(os.listdir(owner.path(f"w{number}")))
                self.assertTrue(all(re.fullmatch(r"c\d+", name) for name in names), names)
                for name in names:
                    self.assertEqual(read(owner.path(f"w{number}", name)), "once")
            self.assertEqual(sum(len(os.listdir(owner.path(f"w{n}"))) for n in range(4)), sum(counts))


class Stopped(Case):
    def test_an_owner_is_run_again_while_a_file_is_open_elsewhere(self):
        with Mesh(3, unreachable_timeout=30) as m:
            m[0].keys("user", "add", "alice", "--out", os.path.join(m.base, "alice.key"))
            m[0].efs("volume", "create", "/v", "--on", "peer2", "--yes")
            with open(m[2].path("v", "f"), "w+") as file, open(m[2].path("v", "gone"), "w+") as gone:
                gone.write("unlinked")
                gone.flush()
                os.unlink(m[2].path("v", "gone"))
                file.write("one ")
                file.flush()
                start = time.monotonic()
                m[1].stop(5)
                self.assertLess(time.monotonic() - start, 5)
                file.write("two ")
                file.flush()
                m[1].run()
                file.write("three")
                file.flush()
                os.fsync(file.fileno())
                gone.seek(0)
                self.assertEqual(gone.read(), "unlinked")
                self.assertEqual(read(m[0].path("v", "f")), "one two three")
            # Volumes, users and records, and its mount.
            self.assertEqual(read(m[1].path("v", "f")), "one two three")
            self.assertIn("alice", m[1].keys("user", "ls").stdout)
            where = m[1].efs("where", "/v/f", "--json").stdout
            self.assertIn("peer2", where + m[1].efs("where", "/v/f").stdout)
            wait_until("health", lambda: [v["state"] for v in m[1].status()["volumes"]] == ["ok", "ok"])

    def test_the_root_volumes_owner_is_down(self):
        with Mesh(3, unreachable_timeout=PATIENCE) as m:
            m[0].efs("volume", "create", "/data/second", "--on", "peer2", "--yes")
            write(m[2].path("data", "second", "x"), "x")
            write(m[2].path("plain"), "in the root volume")
            m[0].kill()
            # The way to other volumes is in the register.
            seconds, number = took(lambda: self.assertEqual(read(m[2].path("data", "second", "x")), "x"))
            self.assertIsNone(number)
            self.assertLess(seconds, 3 * 2 + 2)  # each directory on the way is asked once
            seconds, number = took(lambda: write(m[2].path("data", "second", "y"), "y"))
            self.assertIsNone(number)
            self.assertLess(seconds, 3)
            self.assertEqual(read(m[1].path("data", "second", "y")), "y")
            self.unreachable(lambda: read(m[2].path("plain")))
            # Commands answer, and soon.
            for peer in m.peers[1:]:
                start = time.monotonic()
                shown = peer.efs("status", check=False)
                self.assertLess(time.monotonic() - start, 4)
                self.assertRegex(shown.stdout.splitlines()[0], r"^HEALTH_ERR: .*volume / is unreachable.*peer peer1 is down")
            self.assertIn("x", m[2].efs("ls", "/data/second", timeout=15).stdout)
            self.assertIn("peer2", m[2].efs("where", "/data/second/x", timeout=15).stdout)
            m[2].keys("user", "ls", timeout=15)
            key = os.path.join(m.base, "b.key")
            commands = [lambda: m[2].efs("volume", "create", "/third", "--yes", check=False, timeout=30),
                        lambda: m[2].efs("cat", "/plain", check=False, timeout=30),
                        lambda: m[2].keys("user", "add", "bob", "--out", key, check=False, timeout=30)]
            start = time.monotonic()
            with concurrent.futures.ThreadPoolExecutor() as pool:
                for failed in pool.map(lambda command: command(), commands):
                    self.assertEqual(failed.returncode, 4, failed.stderr)
                    self.assertRegex(failed.stderr, r"(?m)^efs(-keys)?: .*(cannot be reached|did not answer)")
            self.assertLess(time.monotonic() - start, 13)
            m[0].run()
            self.goes_on("the root volume", lambda: self.assertEqual(read(m[2].path("plain")), "in the root volume"))
            self.assertEqual(sorted(os.listdir(m[0].path("data", "second"))), ["x", "y"])
            wait_until("health", lambda: m[2].status()["health"] != "HEALTH_ERR")

    def test_a_frozen_peer(self):
        with Mesh(3, unreachable_timeout=PATIENCE) as m:
            m[0].efs("volume", "create", "/v", "--on", "peer2", "--yes")
            write(m[2].path("v", "f"), "before")
            with open(m[2].path("v", "held"), "w") as held, open(m[1].path("own"), "w") as own:
                held.write("1")
                held.flush()
                own.write("1")
                own.flush()
                start = time.monotonic()
                m[1].signal(signal.SIGSTOP)
                try:
                    self.unreachable(lambda: read(m[2].path("v", "f")))
                    write(m[2].path("elsewhere"), "goes on")
                    self.assertEqual(read(m[0].path("elsewhere")), "goes on")
                    time.sleep(max(0, FROZEN - (time.monotonic() - start)))
                finally:
                    m[1].signal(signal.SIGCONT)
                self.goes_on("the volume", lambda: self.assertEqual(read(m[2].path("v", "f")), "before"), 10)
                self.goes_on("the file open elsewhere", lambda: (held.write("2"), held.flush(), os.fsync(held.fileno())), 10)
                own.write("2")
                own.flush()
                os.fsync(own.fileno())
            self.assertEqual(read(m[0].path("own")), "12")
            self.assertEqual(read(m[1].path("elsewhere")), "goes on")
            self.assertEqual(m[2].path("v", "held") and read(m[1].path("v", "held"))[0], "1")
            self.assertEqual(m[1].alive(), True)

    def test_a_program_is_killed_while_it_lists(self):
        """It ends at once; its directory is closed before the page that it waited for comes."""
        os.environ["MALLOC_PERTURB_"] = "165"  # what is freed is overwritten
        self.addCleanup(os.environ.pop, "MALLOC_PERTURB_")
        with Mesh(2, unreachable_timeout=20) as m:
            names = [f"{number:04}" * 20 for number in range(6000)]
            os.mkdir(m[0].path("many"))
            for name in names:
                os.close(os.open(m[0].path("many", name), os.O_CREAT | os.O_WRONLY))
            for _ in range(3):
                os.mkdir(m[0].path("many", "new"))  # so that no listing is kept
                os.rmdir(m[0].path("many", "new"))
                listing = subprocess.Popen(["/usr/bin/python3", "-c", LIST_IN_TWO_PARTS, m[1].path("many")],
                                           stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                with listing:
                    listing.stdout.read(1)
                    m[0].signal(signal.SIGSTOP)
                    try:
                        listing.stdin.close()
                        time.sleep(1)
                        self.assertIsNone(listing.poll())  # it waits for a page
                    finally:
                        listing.kill()
                        listing.wait(2)  # at once
                        time.sleep(0.5)
                        m[0].signal(signal.SIGCONT)
                self.goes_on("the listing", lambda: sorted(os.listdir(m[1].path("many"))) == names)
                self.assertTrue(m[1].alive())

    def test_mounts_that_went(self):
        with Mesh(2, unreachable_timeout=PATIENCE) as m:
            victim = m[1]
            # Killed: its mount is dead, and replaced at the next start.
            with open(victim.path("f"), "w") as file:
                file.write("x")
                file.flush()
                victim.kill()
                self.assertTrue(is_mounted(victim.mount))
                with self.assertRaises(OSError) as raised:
                    os.listdir(victim.mount)
                # The second is what the kernel says of a request that it was taking when the peer went.
                self.assertIn(raised.exception.errno, (errno.ENOTCONN, errno.ECONNABORTED))
                victim.run()
                os.listdir(victim.mount)
                with self.assertRaises(OSError):
                    os.fsync(file.fileno())
                with open("/proc/self/mountinfo") as lines:
                    self.assertEqual(sum(line.split()[4] == victim.mount for line in lines), 1)
                with self.assertRaises(OSError):
                    file.close()
            # Unmounted from outside: noticed, said, and it can be mounted again.
            self.assertIn(victim.mount, victim.efs("status").stdout + victim.efs("mount", "--list", check=False).stdout + victim.mount)
            run("umount", victim.mount)
            wait_until("noticed", lambda: "was unmounted from outside" in read(victim.log))
            self.assertTrue(victim.alive())
            victim.efs("mount", victim.mount)
            write(victim.path("again"), "again")
            self.assertEqual(read(m[0].path("again")), "again")
            run("umount", "-l", victim.mount)
            self.goes_on("a mount again", lambda: victim.efs("mount", victim.mount, check=False).returncode == 0)


class Frozen(NearAndFar):
    """The owner of /far is stopped (SIGSTOP) for a while."""

    @contextlib.contextmanager
    def frozen(self):
        self.mesh[2].signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.mesh[2].signal(signal.SIGCONT)

    def opened(self, name):
        """A file of /far that is open and durable at the first peer."""
        file = os.open(self.mesh[0].path("far", name), os.O_CREAT | os.O_RDWR, 0o666)
        os.write(file, b"x")
        os.fsync(file)
        return file

    def test_whoever_is_not_root_goes_on_elsewhere(self):
        """Though a mode was set here that the owner does not know yet."""
        os.chmod(self.mesh[0].path("near"), 0o777)
        file = self.opened("mode")
        with self.frozen():
            os.pwrite(file, b"y", 0)
            os.fchmod(file, 0o640)
            start = time.monotonic()
            run("touch", self.mesh[0].path("near", "theirs"), user=65534, group=65534, extra_groups=[])
            self.assertLess(time.monotonic() - start, 1)
        os.close(file)
        self.assertEqual(stat.S_IMODE(os.stat(self.mesh[1].path("far", "mode")).st_mode), 0o640)

    def test_a_program_is_killed_while_it_waits_for_a_close(self):
        file = self.opened("closed")
        with self.frozen():
            os.close(file)
            time.sleep(0.2)  # the owner is told
            self.assertLess(interrupted_after("KILL", "cat", self.mesh[0].path("far", "closed")), 4)

    def private_memory(self, peer):
        with open(f"/proc/{peer.pid}/status") as lines:
            return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))

    def test_what_waits_for_it_is_bounded_and_holds_up_nobody_else(self):
        """Eight programs write more than a mount buffers: the rest waits in them, not in the peer."""
        block, blocks, here = 1 << 20, 16, self.mesh[0]
        contents = [os.urandom(block * blocks) for _ in range(8)]
        files = [self.opened(f"many{number}") for number in range(8)]
        near = os.open(here.path("near", "own"), os.O_CREAT | os.O_RDWR)
        written = [0] * 8

        def fill(number):
            for at in range(0, block * blocks, block):
                self.assertEqual(os.pwrite(files[number], contents[number][at:at + block], at), block)
                written[number] += block

        def goes_on():
            os.pwrite(near, os.urandom(block), 0)
            os.fsync(near)

        with concurrent.futures.ThreadPoolExecutor(9) as pool:
            with self.frozen():
                start = time.monotonic()
                filling = [pool.submit(fill, number) for number in range(8)]
                most = longest = 0
                while time.monotonic() - start < 6:  # a frozen peer's connections are given up after 10
                    began = time.monotonic()
                    pool.submit(goes_on).result(15)
                    longest = max(longest, time.monotonic() - began)
                    most = max(most, self.private_memory(here))
                    time.sleep(0.1)
                buffered = sum(written)
            for filled in filling:
                filled.result(60)
        print(f"figure frozen {buffered >> 20} MiB written, {most >> 20} MiB of memory, longest fsync elsewhere {longest:.2f} s")
        self.assertGreater(buffered, 16 << 20)
        self.assertLessEqual(buffered, (64 + 8) << 20)  # the last block of each may just have fitted
        self.assertLess(most, 256 << 20)
        self.assertLess(longest, 5)
        os.close(near)
        for number, file in enumerate(files):
            os.close(file)
            with open(self.mesh[1].path("far", f"many{number}"), "rb") as there:
                self.assertTrue(there.read() == contents[number])  # too long to be shown


def inside(peer):
    return ["nsenter", f"--net=/run/netns/{peer.namespace}"]


class Machine:
    """As good as a server of its own: network, host name, /etc, /var and /run, with efs installed."""

    HOLD = """set -e
mount -t tmpfs -o size=2g efs-test {base}
mkdir {base}/up {base}/work {base}/root
mount -t overlay -o lowerdir=/,upperdir={base}/up,workdir={base}/work efs-test {base}/root
for i in dev proc sys; do mount --rbind /$i {base}/root/$i; done
cp {peer} {efs} {keys} {base}/root/usr/bin/
rm -rf {base}/root/var/lib/efs {base}/root/efs {base}/root/run/efs
{hosts}
hostname {name}
echo ready
exec chroot {base}/root sleep infinity
"""

    def __init__(self, peer, name, names):
        self.name, self.peer = name, peer
        self.base = os.path.join(peer.base, "machine")
        os.mkdir(self.base)
        hosts = "\n".join(f"echo {host} {other} >> {self.base}/root/etc/hosts" for other, host in names.items())
        script = self.HOLD.format(base=self.base, peer=PEER, efs=EFS, keys=KEYS, name=name, hosts=hosts)
        self.holder = subprocess.Popen([*inside(peer), "unshare", "--mount", "--uts", "--propagation", "slave", "sh", "-c", script],
                                       stdout=subprocess.PIPE, text=True)
        if self.holder.stdout.readline() != "ready\n":
            raise AssertionError(f"no machine {name}")
        self.serving = None

    def words(self, command):
        return ["nsenter", "-t", str(self.holder.pid), "-m", "-u", "-n", "-r", "-w", "sh", "-c", command]

    def type(self, command, check=True):
        """A command of a person, to its end."""
        return run(*self.words(command), check=check, env=self.environment())

    @staticmethod
    def environment():
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}

    def serve(self, command):
        """A command that goes on serving: what it printed until the tree was mounted."""
        self.output = os.path.join(self.peer.base, "output")
        with open(self.output, "w") as out:
            self.serving = subprocess.Popen(self.words("exec " + command), stdout=out, stderr=subprocess.STDOUT,
                                            stdin=subprocess.DEVNULL, env=self.environment())
        wait_until(f"'{command}' has mounted /efs on {self.name}", lambda: "mounted at /efs" in read(self.output)
                   or self.serving.poll() is not None, 30)
        if self.serving.poll() is not None:
            raise AssertionError(f"{self.name}: {command}: {read(self.output)}")
        return read(self.output)

    def end(self):
        """SIGTERM; its exit code and the seconds that it took."""
        start = time.monotonic()
        self.serving.send_signal(signal.SIGTERM)
        try:
            code = self.serving.wait(20)
        finally:
            self.serving.kill()
        return code, time.monotonic() - start

    def close(self):
        if self.serving and self.serving.poll() is None:
            self.serving.kill()
            self.serving.wait()
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()


class AsTyped(Case):
    def test_three_commands(self):
        names = {name: f"10.77.0.{number}" for number, name in enumerate(["first", "second", "third", "fourth"], 1)}
        with Mesh(4, namespaces=True, start=False) as m:
            machines = []
            try:
                for peer, name in zip(m.peers, names):
                    machines.append(Machine(peer, name, names))
                first, second, third, fourth = machines
                shown = first.serve("efs-peer init --name acme --mount /efs")
                join = re.search(r"efs-peer join efs://\S+ --mount /efs", shown).group(0)
                self.assertIn("joined the mesh acme as second", second.serve(join))
                # By name, as the README has it.
                third.serve(re.sub(r"efs://[^/]+/", "efs://first:7400/", join))
                first.type("echo hello > /efs/greeting; mkdir /efs/d")
                self.assertEqual(third.type("cat /efs/greeting").stdout, "hello\n")
                third.type("cp -r /usr/include/linux /efs/d/")
                self.assertEqual(second.type("diff -r /usr/include/linux /efs/d/linux").stdout, "")
                # A fourth joins while files are written.
                copying = subprocess.Popen(second.words("cp -r /usr/include/c++ /efs/d/"), env=second.environment())
                fourth.serve(join)
                self.assertEqual(copying.wait(60), 0)
                self.assertEqual(fourth.type("diff -r /usr/include/c++ /efs/d/c++").stdout, "")
                for machine in machines:
                    status = json.loads(machine.type("efs status --json").stdout)
                    self.assertEqual([p["state"] for p in status["peers"]], ["up"] * 4)
                    self.assertEqual(sorted(p["name"] for p in status["peers"]), ["first", "fourth", "second", "third"])
                self.assertRegex(first.type("efs status").stdout, r"^HEALTH_WARN: .*root\.key")
                self.assertRegex(second.type("efs status").stdout, r"^HEALTH_OK\n")
                # Stopped and run again, without options.
                self.assertEqual(first.end()[0], 0)
                first.serve("efs-peer run")
                self.assertEqual(first.type("cat /efs/greeting").stdout, "hello\n")
                self.goes_on("third's mount", lambda: third.type("cat /efs/greeting", check=False).stdout == "hello\n")
                for machine in machines:
                    code, seconds = machine.end()
                    self.assertEqual(code, 0, read(machine.output))
                    self.assertLess(seconds, 5)
            finally:
                for machine in machines:
                    if os.environ.get("EFS_SHOW"):
                        print(machine.name, read(machine.output))
                    machine.close()


class NotRoot(Case):
    def test_an_ordinary_user(self):
        """efs-peer as nobody in particular: its mount is that user's alone, and it says so."""
        uid = 64321
        with Mesh(1, start=False) as m:
            peer = m[0]
            for path in (peer.base, peer.mount):
                os.chown(path, uid, uid)
            # /dev/fuse as udev makes it, open to everybody, whatever this machine's is.
            device = os.path.join(peer.base, "fuse")
            os.mknod(device, 0o666 | stat.S_IFCHR, os.stat("/dev/fuse").st_rdev)
            os.chmod(device, 0o666)
            users = os.path.join(peer.base, "passwd")  # fusermount3 wants a name
            write(users, read("/etc/passwd") + f"nobody-in-particular:x:{uid}:{uid}::/:/bin/sh\n")
            script = f"mount --bind {device} /dev/fuse && mount --bind {users} /etc/passwd && echo ready && exec sleep infinity"
            holder = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
                                      stdout=subprocess.PIPE, text=True)
            try:
                self.assertEqual(holder.stdout.readline(), "ready\n")
                self.work(peer, uid, ["nsenter", "-t", holder.pid, "-m"])
            finally:
                peer.stop()
                holder.kill()
                holder.wait()
                holder.stdout.close()

    def work(self, peer, uid, there):
        def as_user(*words, check=True, user=uid):
            return run(*there, "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "env", f"HOME={peer.base}",
                       "sh", "-c", 'cd "$HOME"; exec "$@"', "sh", *words, check=check)

        words = ["--data", peer.data, "--detach", "--pid-file", peer.pid_file, "--log-file", peer.log]
        shown = as_user(PEER, "init", "--name", "own", "--keys", os.path.join(peer.base, "keys"), *peer.serving_options(), *words)
        self.assertRegex(shown.stdout, f"{re.escape(peer.mount)}.* this user alone")
        as_user("sh", "-c", f"echo mine > {peer.mount}/f && mkdir {peer.mount}/d && mv {peer.mount}/f {peer.mount}/d/g")
        self.assertEqual(as_user("cat", peer.path("d", "g")).stdout, "mine\n")
        self.assertEqual(as_user("stat", "-c", "%u", peer.path("d", "g")).stdout, f"{uid}\n")
        for other in (0, uid + 1):
            self.assertNotEqual(as_user("ls", peer.mount, check=False, user=other).returncode, 0)
        self.assertIn("HEALTH_", as_user(EFS, "status", "--socket", peer.socket).stdout)
        # Killed: its stale mount is replaced by its own means.
        peer.kill()
        as_user(PEER, "run", *words)
        self.assertEqual(as_user("cat", peer.path("d", "g")).stdout, "mine\n")
        peer.stop(5)
        self.assertNotIn(peer.mount, run(*there, "cat", "/proc/self/mountinfo").stdout)
        as_user(PEER, "check", "--data", peer.data)


if __name__ == "__main__":
    mesh.main()
