"""What the package brings, and that efs-peer does all its work with the capabilities that its unit leaves it.

The long form (EFS_LONG=1, as root) makes the package, installs it in a fresh Debian 12 (debootstrap), boots systemd
there in namespaces of its own, and uses the service: init --service, restart, kill -9, upgrade, remove, purge.
"""
import glob
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import unittest.mock

import mesh
from debian import Debian
from mesh import EFS, TOP, Mesh, run

UNIT = os.path.join(TOP, "config", "efs-peer.service")
GROUP = 60
NOBODY = 65534


def unit_settings():
    with open(UNIT) as file:
        return dict(line.strip().split("=", 1) for line in file if "=" in line and not line.startswith("#"))


def under_the_unit(peer):
    """Starts this peer as the unit would: with its bounding set and no new privileges."""
    wanted = unit_settings()["CapabilityBoundingSet"].split()
    left = ",".join(["-all"] + ["+" + name.removeprefix("CAP_").lower() for name in wanted])
    plain = peer.command
    peer.command = lambda *words: ["setpriv", "--bounding-set", left, "--inh-caps", "-all", "--no-new-privs", *plain(*words)]


def read(path):
    with open(path) as file:
        return file.read()


class UnderTheUnit(unittest.TestCase):
    def test_its_mounts_are_seen_by_all(self):
        """Each of these gives a service a mount namespace of its own, which hides what it mounts."""
        for name in unit_settings():
            self.assertFalse(name.startswith(("Protect", "Private", "ReadOnly", "ReadWrite", "Inaccessible", "Bind")), name)

    def test_the_service_manager_is_told_when_it_serves(self):
        self.assertEqual(unit_settings()["Type"], "notify")
        with Mesh(1, start=False) as m, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            at = os.path.join(m.base, "notify")
            manager.bind(at)
            manager.settimeout(10)
            with unittest.mock.patch.dict(os.environ, NOTIFY_SOCKET=at):
                m.start()
            self.assertEqual(manager.recv(100), b"READY=1")
            self.assertTrue(mesh.is_mounted(m[0].mount))

    def test_capabilities_suffice(self):
        with Mesh(2, start=False) as m:
            for peer in m.peers:
                under_the_unit(peer)
            m.start()
            with open(f"/proc/{m[0].pid}/status") as file:
                bounding = next(line.split()[1] for line in file if line.startswith("CapBnd"))
            self.assertNotEqual(int(bounding, 16) & 1 << 21, 0)  # CAP_SYS_ADMIN
            self.assertEqual(int(bounding, 16) & 1 << 7, 0)  # not CAP_SETUID
            for peer in m.peers:
                path = peer.path(peer.name)
                os.mkdir(path)
                os.chown(path, NOBODY, GROUP)
                os.chmod(path, 0o2770)
                mine = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--groups", str(GROUP)]
                run(*mine, "sh", "-c", f"echo mine > {path}/mine && chmod 600 {path}/mine")
                run(*mine, EFS, "--socket", peer.socket, "put", "/etc/hostname", f"/{peer.name}/put")  # its groups
                self.assertEqual(os.stat(path + "/put").st_gid, GROUP)
                self.assertEqual(read(path + "/mine"), "mine\n")
                with open(path + "/mine", "a") as file:  # root, whatever the mode says
                    file.write("and root's\n")
                os.chown(path + "/mine", 0, 0)
            # A store in a directory of somebody else, mode 0700.
            store = os.path.join(m.base, "foreign")
            os.mkdir(store, 0o700)
            os.chown(store, NOBODY, NOBODY)
            m[0].efs("store", "add", os.path.join(store, "chunks"))
            m[1].kill()  # leaves its mount, which the next run takes away
            m[1].run()
            self.assertEqual(read(m[1].path("peer1", "mine")), "mine\nand root's\n")


class Contents(unittest.TestCase):
    def test_what_is_in_it(self):
        with tempfile.TemporaryDirectory() as base:
            run("cpack", "-G", "DEB", "--config", os.path.join(mesh.BUILD, "CPackConfig.cmake"), "-B", base, timeout=300)
            package, = glob.glob(os.path.join(base, "efs_*.deb"))
            root = os.path.join(base, "root")
            run("dpkg-deb", "--raw-extract", package, root)
            control = read(os.path.join(root, "DEBIAN", "control"))
            for library in ("libuv1", "liblmdb0", "libsodium23", "libfuse3-3", "libssl3", "liblz4-1", "libzstd1", "libedit2", "libc6"):
                self.assertRegex(control, rf"(?m)^Depends:.*\b{library}\b")
            self.assertRegex(control, r"(?m)^Depends:.*\bfuse3\b")
            self.assertEqual(read(os.path.join(root, "DEBIAN", "conffiles")).split(), ["/etc/efs/efs.yaml"])
            modes = {"usr/bin/efs": 0o755, "usr/bin/efs-keys": 0o755, "usr/bin/efs-peer": 0o755, "etc/efs/efs.yaml": 0o644,
                     "sbin/mount.fuse.efs": 0o755,
                     "lib/systemd/system/efs-peer.service": 0o644, "usr/share/man/man1/efs.1.gz": 0o644,
                     "usr/share/man/man1/efs-keys.1.gz": 0o644, "usr/share/man/man8/efs-peer.8.gz": 0o644,
                     "usr/share/doc/efs/copyright": 0o644, "DEBIAN/postinst": 0o755, "DEBIAN/prerm": 0o755,
                     "DEBIAN/postrm": 0o755}
            modes |= {f"usr/share/bash-completion/completions/{name}": 0o644 for name in ("efs", "efs-keys", "efs-peer")}
            for path, mode in modes.items():
                about = os.stat(os.path.join(root, path))
                self.assertEqual((about.st_mode & 0o7777, about.st_uid), (mode, 0), path)
                self.assertGreater(about.st_size, 0, path)
            listed = run("dpkg-deb", "--contents", package).stdout
            for path in (" ./var", " ./efs", ".a\n", "/include/"):  # no data, nothing to build with
                self.assertNotIn(path, listed)
            for program in ("efs", "efs-keys", "efs-peer"):
                about = run(os.path.join(root, "usr/bin", program), "--version").stdout
                self.assertRegex(control, rf"(?m)^Version: {re.escape(about.split()[-1])}$")
                self.assertNotIn("not stripped", run("file", os.path.join(root, "usr/bin", program)).stdout)
                self.assertEqual(run("man", "--warnings", "--encoding=utf8", "--local-file",
                                     glob.glob(os.path.join(root, f"usr/share/man/man?/{program}.?.gz"))[0]).stderr, "")
            for script in ("postinst", "prerm", "postrm"):
                run("sh", "-n", os.path.join(root, "DEBIAN", script))
                for line in read(os.path.join(root, "DEBIAN", script)).split("\n"):
                    self.assertNotRegex(line, r"\b(rm|unlink|find|mv)\b")  # data is nobody's to delete
            run("bash", "-c", f"source {root}/usr/share/bash-completion/completions/efs")


if mesh.LONG:
    class InDebian(unittest.TestCase):
        def test_the_service(self):
            run(os.path.join(TOP, "tools", "package"), timeout=3600)
            package = sorted(glob.glob(os.path.join(TOP, "build/release/package/efs_*.deb")), key=os.path.getmtime)[-1]
            machine = Debian()
            try:
                self.timed("a fresh Debian 12", machine.make, "systemd,systemd-sysv,dbus")
                self.timed("the package in it", self.install, machine, package)
                self.timed("systemd booted there", machine.boot)
                self.use(machine.do)
                self.go(machine.do)
            finally:
                machine.close()

        @staticmethod
        def install(machine, package):
            shutil.copy(package, os.path.join(machine.root, "root", "efs.deb"))
            machine.before("apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "
                           "/root/efs.deb man-db bash-completion", timeout=1800)

        def use(self, do):
            do("man efs >/dev/null && man efs-keys >/dev/null && man efs-peer >/dev/null && getent passwd efs")
            self.assertIn("/etc/efs/efs.yaml", do("dpkg-query -W -f '${Conffiles}' efs").stdout)
            do("cd /root && efs-peer init --name acme --mount /efs --service", timeout=90)
            do("systemctl is-active efs-peer && systemctl is-enabled efs-peer && mountpoint /efs")
            do("echo kept > /efs/small && head -c 9000000 /dev/urandom > /efs/big && sha256sum /efs/big > /root/sum")
            do("useradd -m -G games ann && mkdir /efs/ann && chown ann:games /efs/ann && chmod 2770 /efs/ann && "
               "runuser -u ann -- sh -c 'efs put /etc/passwd /ann/put && cat /efs/ann/put >/dev/null'")
            started = time.monotonic()
            do("systemctl restart efs-peer && mountpoint /efs && sha256sum -c /root/sum")
            print(f"figure systemctl restart: {time.monotonic() - started:.1f} s, and what was written is there")
            started = time.monotonic()
            do("kill -9 $(systemctl show -p MainPID --value efs-peer); "
               "for i in $(seq 100); do [ \"$(cat /efs/small 2>/dev/null)\" = kept ] && exit; sleep 0.1; done; exit 1")
            print(f"figure back {time.monotonic() - started:.1f} s after kill -9 under systemd")
            do("sha256sum -c /root/sum && [ $(systemctl show -p NRestarts --value efs-peer) -ge 1 ]")

        def go(self, do):
            """Upgraded while it serves, removed, purged, there again: the data stay where they are."""
            do("pid=$(systemctl show -p MainPID --value efs-peer); "
               "apt-get install --reinstall -y /root/efs.deb && [ $(systemctl show -p MainPID --value efs-peer) != $pid ] && "
               "mountpoint /efs && sha256sum -c /root/sum")
            for words in ("remove", "purge"):
                do(f"apt-get {words} -y efs")
                do("[ -f /var/lib/efs/genesis ] && [ -d /var/lib/efs/chunks ] && ! mountpoint -q /efs && ! pgrep efs-peer && "
                   "[ ! -e /usr/bin/efs ] && [ ! -e /lib/systemd/system/efs-peer.service ]")
                do("[ %s -e /etc/efs/efs.yaml ]" % ("!" if words == "purge" else ""))
                do("apt-get install -y --no-install-recommends /root/efs.deb && systemctl start efs-peer && "
                   "mountpoint /efs && sha256sum -c /root/sum && [ $(cat /efs/small) = kept ]")

        def timed(self, what, action, *arguments):
            started = time.monotonic()
            action(*arguments)
            print(f"figure {what}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    mesh.main()
