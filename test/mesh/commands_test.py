"""Every command of efs and efs-keys on a real mesh, as people type them; and the shell on a real terminal."""
import contextlib
import json
import os
import pty
import pwd
import re
import select
import shutil
import signal
import subprocess
import time
import unittest

import mesh
from mesh import EFS, Mesh

USER = pwd.getpwnam("nobody")
GROUP = 60  # one that nobody is not in by itself


def as_user(peer, *words, groups=(), check=True, **more):
    """efs WORDS as the user nobody, with these supplementary groups."""
    what = ["setpriv", "--reuid", str(USER.pw_uid), "--regid", str(USER.pw_gid)]
    what += ["--groups", ",".join(map(str, groups))] if groups else ["--clear-groups"]
    return mesh.run(*what, EFS, *words, "--socket", peer.socket, check=check, **more)


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path


def read(path):
    with open(path) as file:
        return file.read()


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *words, home):
        self.seen = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(HOME=home, TERM="xterm")
            os.environ.pop("XDG_STATE_HOME", None)
            os.execv(words[0], list(words))

    def type(self, text):
        os.write(self.fd, text.encode())

    def expect(self, pattern, seconds=20):
        """Waits until what came since the last expect() matches; returns all of that."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.seen):
            if time.monotonic() > end:
                raise AssertionError(f"no {pattern!r} in {self.seen!r}")
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    data = os.read(self.fd, 65536)
                except OSError:
                    data = b""
                self.seen += data.decode(errors="replace")
        seen, self.seen = self.seen, ""
        return seen

    def close(self):
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


class Commands(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mesh = Mesh(2)
        cls.one, cls.two = cls.mesh.peers

    @classmethod
    def tearDownClass(cls):
        cls.mesh.close()

    def fails(self, code, peer, *words):
        done = peer.efs(*words, check=False)
        self.assertEqual(done.returncode, code, f"{words}: {done.stdout}{done.stderr}")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        return done.stderr

    def test_files(self):
        efs, base = self.two.efs, self.mesh.base
        efs("mkdir", "-p", "/f/a/b")
        write(os.path.join(base, "local"), "hello\n")
        efs("put", os.path.join(base, "local"), "/f/a/one")
        self.assertEqual(efs("cat", "/f/a/one").stdout, "hello\n")
        mesh.run("sh", "-c", f"{EFS} --socket {self.two.socket} put - /f/a/two < {base}/local")
        self.assertEqual(efs("get", "/f/a/two", "-").stdout, "hello\n")
        efs("cp", "/f/a/one", "/f/a/b/three")
        efs("mv", "/f/a/two", "/f/a/b/four")
        self.assertEqual(efs("ls", "-1", "/f/a/b").stdout.split(), ["four", "three"])
        self.assertEqual(efs("find", "/f", "-name", "t*").stdout.split(), ["/f/a/b/three"])
        self.assertIn("three", efs("tree", "/f").stdout)
        efs("chmod", "u+x,go-r", "/f/a/one")
        self.assertEqual(os.stat(self.one.path("f", "a", "one")).st_mode & 0o7777, 0o700)
        efs("chown", "-R", "nobody:60", "/f/a/b")
        about = os.stat(self.one.path("f", "a", "b", "four"))
        self.assertEqual((about.st_uid, about.st_gid), (USER.pw_uid, 60))
        efs("ln", "/f/a/one", "/f/hard")
        efs("ln", "-s", "a/one", "/f/soft")
        self.assertEqual(os.readlink(self.one.path("f", "soft")), "a/one")
        self.assertEqual(os.stat(self.one.path("f", "hard")).st_nlink, 2)
        efs("touch", "/f/empty")
        self.assertEqual(os.stat(self.one.path("f", "empty")).st_size, 0)
        stat = json.loads(efs("stat", "/f/hard", "--json").stdout)
        stat = stat[0] if isinstance(stat, list) else stat
        self.assertIn("/f/hard", json.dumps(stat))
        self.assertIn("/f", efs("du", "-s", "/f").stdout)
        self.fails(1, self.two, "rm", "/f/a")
        efs("rm", "-r", "/f")
        self.fails(5, self.two, "stat", "/f")

    def test_whole_directories(self):
        efs, base = self.two.efs, self.mesh.base
        source = os.path.join(base, "source")
        os.makedirs(os.path.join(source, "deep", "er"))
        write(os.path.join(source, "deep", "er", "a file with spaces"), "x" * 300000)
        os.symlink("deep", os.path.join(source, "link"))
        done = efs("put", source, "/put")
        self.assertEqual(done.stderr, "", "no bar without a terminal")
        efs("cp", "-r", "/put", "/copy")
        target = os.path.join(base, "target")
        efs("get", "/copy", target)
        mesh.run("diff", "-r", "--no-dereference", source, target)

    def test_writing_takes_setuid_away(self):
        """As for write(2) and truncate(2): who may write to a program may not become its owner. Root may."""
        source, empty = write(os.path.join(self.mesh.base, "new"), "new"), write(os.path.join(self.mesh.base, "empty"), "")
        for peer in self.mesh.peers:
            for local, whose in ((source, as_user), (empty, as_user), (source, lambda one, *words: one.efs(*words))):
                program = write(self.one.path("program"), "old")
                os.chown(program, 0, USER.pw_gid)
                os.chmod(program, 0o6775)
                whose(peer, "put", local, "/program")
                self.assertEqual(read(program), read(local))
                bits = os.stat(program).st_mode & 0o7777
                self.assertEqual(bits, 0o775 if whose == as_user else 0o6775, (peer.name, local))
                os.unlink(program)

    def test_rights_of_the_caller(self):
        """Who asks is who the kernel says it is, with the groups that it has."""
        os.makedirs(self.one.path("team"))
        os.chown(self.one.path("team"), 0, GROUP)
        os.chmod(self.one.path("team"), 0o2770)
        for peer in self.mesh.peers:
            refused = as_user(peer, "ls", "/team", check=False)
            self.assertEqual(refused.returncode, 3, refused.stderr)
            as_user(peer, "touch", "/team/" + peer.name, groups=[GROUP])
        self.assertEqual(os.stat(self.one.path("team", "peer1")).st_uid, USER.pw_uid)
        self.assertEqual(os.stat(self.one.path("team", "peer2")).st_gid, GROUP)
        self.assertEqual(as_user(self.one, "mount", "/nowhere", check=False).returncode, 3)
        self.assertEqual(as_user(self.one, "volume", "create", "/mine", check=False).returncode, 3)

    def test_places(self):
        efs = self.one.efs
        status = self.one.status()
        self.assertEqual(set(status) - {"mesh"}, {"health", "reasons", "peers", "volumes"})
        wanted = {"id", "name", "address", "state", "used_bytes", "capacity_bytes", "version", "rtt_ms", "clock_offset_ms"}
        for peer in status["peers"]:
            self.assertLessEqual(wanted, set(peer))
        for volume in status["volumes"]:
            self.assertLessEqual({"id", "prefix", "owners", "leader", "state", "used_bytes", "files"}, set(volume))
        self.assertRegex(efs("status").stdout.split("\n")[0], r"^HEALTH_(OK|WARN: .*root\.key.*)$")
        efs("volume", "create", "--on", "peer2", "/v")
        shown = json.loads(efs("volume", "show", "/v", "--json").stdout)
        self.assertEqual(shown["prefix"], "/v")
        efs("volume", "set", "/v", "replicas=1")
        self.assertIn("not built yet", self.fails(1, self.one, "volume", "set", "/v", "replicas=3"))
        self.assertIn("not built yet", self.fails(1, self.one, "volume", "create", "/w", "--replicas", "3"))
        write(self.one.path("v", "big"), "y" * 5000)
        where = json.loads(efs("where", "/v/big", "--json").stdout)
        self.assertEqual((where["prefix"], len(where["chunks"])), ("/v", 1))
        self.assertIn("peer2", efs("where", "/v/big").stdout)
        self.fails(1, self.one, "volume", "rm", "/v", "--yes")
        self.fails(2, self.one, "volume", "rm", "/v")  # nobody to ask
        os.unlink(self.one.path("v", "big"))
        # The file counts until the mounts that had it open have said that they closed it.
        mesh.wait_until("the volume is removed", lambda: efs("volume", "rm", "/v", "--yes", check=False).returncode == 0, 5)
        self.assertNotIn("/v\n", efs("volume", "ls").stdout)
        self.assertEqual({p["name"] for p in json.loads(efs("peer", "ls", "--json").stdout)["peers"]}, {"peer1", "peer2"})
        self.assertIn("peer2", efs("peer", "show", "peer2").stdout)
        self.fails(1, self.one, "peer", "rm", "peer1", "--yes")  # owns /
        self.fails(5, self.one, "peer", "show", "peer9")
        store = os.path.join(self.mesh.base, "more")
        efs("store", "add", store + ":1G")
        self.assertIn(store, efs("store", "ls").stdout)
        efs("store", "rm", store, "--yes")
        second = os.path.join(self.mesh.base, "second-mount")
        os.mkdir(second)
        efs("mount", second, "--read-only")
        self.assertTrue(mesh.is_mounted(second))
        self.assertIn(second, efs("mount").stdout)
        with self.assertRaises(OSError):
            write(os.path.join(second, "no"), "")
        efs("umount", second)
        self.assertFalse(mesh.is_mounted(second))
        self.assertEqual(mesh.run(EFS, "status", "--socket", "/nowhere", check=False).returncode, 4)
        self.assertEqual(efs("volume", "nonsense", check=False).returncode, 2)

    def test_remount(self):
        """mount(8) with the package's helper, which it looks for in /sbin: in a mount namespace of its own."""
        sbin = os.path.join(self.mesh.base, "sbin")
        os.mkdir(sbin)
        shutil.copy(os.path.join(mesh.TOP, "tools", "mount.fuse.efs"), sbin)
        def remount(options, then="true"):
            script = (f"mount -t overlay -o lowerdir={sbin}:/usr/sbin overlay /usr/sbin && "
                      f"mount -o remount,{options} {self.one.mount} && {{ {then}; }} && grep ' {self.one.mount} ' /proc/self/mounts")
            return mesh.run("unshare", "--mount", "sh", "-c", script).stdout.split()[3].split(",")
        shown = remount("ro", f"! touch {self.one.path('no')} 2>/dev/null")
        self.assertEqual({"ro", "nosuid", "nodev"} - set(shown), set())
        shown = remount("rw", f"touch {self.one.path('yes')}")
        self.assertEqual({"rw", "nosuid", "nodev"} - set(shown), set())
        self.assertNotIn("nosuid", remount("suid"))
        # And makes one: as from fstab, or a program that mounts and unmounts.
        here = os.path.join(self.mesh.base, "made")
        os.mkdir(here)
        helper = os.path.join(mesh.TOP, "tools", "mount.fuse.efs")
        with open(os.path.join(sbin, "efs"), "w", encoding="utf-8") as program:  # this test's peer is not where it is looked for
            program.write(f'#!/bin/sh\nexec {mesh.EFS} --socket {self.one.socket} "$@"\n')
            os.fchmod(program.fileno(), 0o755)
        environment = dict(os.environ, PATH=sbin + ":" + os.environ["PATH"])
        for options, expected in (("rw,noauto,x-systemd.automount", {"rw"}), ("ro,noexec", {"ro", "noexec", "nosuid"})):
            mesh.run(helper, "efs", here, "-o", options, env=environment)
            with open("/proc/self/mounts", encoding="utf-8") as mounts:
                shown = [line.split()[3].split(",") for line in mounts if line.split()[1] == here]
            self.assertEqual([expected - set(one) for one in shown], [set()])
            self.assertTrue(os.path.exists(os.path.join(here, "yes")))
            mesh.run("umount", here)
        refused = mesh.run(helper, "efs", os.path.join(sbin, "efs"), "-o", "rw", env=environment, check=False)
        self.assertEqual(refused.returncode, 32)

    def test_keys(self):
        keys, base = self.one.keys, self.mesh.base
        keys("group", "add", "staff")
        keys("user", "add", "ann", "--groups", "staff", "--home", "/", "--out", os.path.join(base, "ann.key"))
        self.assertEqual(os.stat(os.path.join(base, "ann.key")).st_mode & 0o777, 0o600)
        self.assertIn("ann", self.two.keys("user", "ls").stdout)
        self.assertIn("staff", keys("user", "show", "ann").stdout)
        uid = str(json.loads(keys("user", "show", "ann", "--json").stdout)["uid"])
        self.assertEqual(keys("user", "add", "bob", "--uid", uid, "--out", os.path.join(base, "bob.key"), check=False).returncode, 1)
        self.assertFalse(os.path.exists(os.path.join(base, "bob.key")))  # refused: nobody's
        keys("user", "groups", "ann", "-staff")
        self.assertNotIn("staff", keys("user", "show", "ann").stdout)
        keys("user", "rotate", "ann", "--out", os.path.join(base, "ann2.key"))
        keys("grant", "ann", "rw", "/projects")
        self.assertIn("ann", keys("grants", "/projects").stdout)
        keys("revoke", "ann", "/projects")
        self.assertNotIn("ann", keys("grants").stdout)
        # An administrator who is not root signs with a key of their own.
        admin = os.path.join(base, "boss.key")
        keys("admin", "add", "boss", "--out", admin)
        self.assertIn("boss", keys("admin", "ls").stdout)
        os.chown(admin, USER.pw_uid, USER.pw_gid)
        who = ["setpriv", "--reuid", str(USER.pw_uid), "--regid", str(USER.pw_gid), "--clear-groups", mesh.KEYS,
               "--socket", self.two.socket]
        refused = mesh.run(*who, "group", "add", "made-by-boss", check=False)
        self.assertEqual(refused.returncode, 3, refused.stderr)
        mesh.run(*who, "--key", admin, "group", "add", "made-by-boss")
        self.assertIn("made-by-boss", keys("group", "ls").stdout)
        self.assertIn("boss", keys("audit").stdout)
        keys("admin", "rm", "boss", "--yes")
        refused = mesh.run(*who, "--key", admin, "group", "add", "again", check=False)
        self.assertNotEqual(refused.returncode, 0)
        keys("user", "rm", "ann", "--yes")
        keys("group", "rm", "staff", "--yes")
        self.assertIn("test", keys("whoami").stdout)
        for more in ([], ["--client"], ["--operator"], ["--uids", "1000-2000", "--under", "/x", "--for", "30m", "--uses", "3"]):
            seed = keys("invite", *more).stdout
            self.assertRegex(seed, r"^efs://[^\s]+\n$")
        for words in (["login"], ["logout"], ["mesh", "rotate-root"]):
            refused = keys(*words, check=False)
            self.assertEqual(refused.returncode, 1)
            self.assertIn("not built yet", refused.stderr)
        self.assertIn("peer2", keys("peer", "ls").stdout)

    def test_shell(self):
        home = os.path.join(self.mesh.base, "home")
        os.makedirs(home)
        os.makedirs(self.one.path("shell", "directory with spaces"))
        write(self.one.path("shell", "directory with spaces", "unique-name"), "found it\n")
        first = Terminal(EFS, "--socket", self.one.socket, home=home)
        try:
            first.expect(r"efs:/> ")
            first.type("cd /she\t\n")  # Tab ends the name
            first.expect(r"efs:/shell> ")
            first.type("cd 'dir\t")
            first.expect(r"'directory with spaces/")  # the quote stays open: there may be more to the path
            first.type("'\n")
            first.expect(r"efs:/shell/directory with spaces> ")
            first.type("ca\tuni\t\n")
            first.expect(r"found it")
            first.type("nonsense\n")
            first.expect(r"nonsense.*\n(.|\n)*efs:/shell/directory with spaces> ")
            first.type("exit\n")
            self.assertEqual(os.waitpid(first.pid, 0)[1], 0)
        finally:
            with contextlib.suppress(ChildProcessError):
                first.close()
        self.assertIn("nonsense", read(os.path.join(home, ".local/state/efs/history")))
        second = Terminal(EFS, "--socket", self.one.socket, home=home)
        try:
            second.expect(r"efs:/> ")
            second.type("\x1b[A\x1b[A\x1b[A")  # exit, nonsense, cat
            second.expect(r"unique-name")
            second.type("\x03")
        finally:
            second.close()
        alone = subprocess.run([EFS, "--socket", self.one.socket], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        self.assertEqual(alone.returncode, 2)


if __name__ == "__main__":
    mesh.main()
