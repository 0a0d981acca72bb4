"""A fresh Debian 12 in a directory, for tests of what begins there; with systemd, or without."""
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time

import mesh
from mesh import read, run

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root",
               **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}}

BOOT = r"""
mount --make-rprivate / && mount --bind "$root" "$root" && cd "$root"
mount -t proc proc proc && mount -t sysfs -o ro sysfs sys && mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
for d in null zero full random urandom tty fuse; do touch dev/$d; mount --bind /dev/$d dev/$d; done
mkdir dev/pts dev/shm && mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts && ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 run run && mount -t tmpfs tmp tmp
[ -z "$alone" ] || ip link set lo up
pivot_root . mnt && umount -l mnt
exec env -i container=efs PATH=/usr/sbin:/usr/bin:/sbin:/bin $init </dev/null
"""


class Debian:
    def __init__(self):
        self.root = os.path.join(tempfile.mkdtemp(prefix="efs-debian-"), "root")
        self.cgroup = None
        self.process = None

    def make(self, packages):
        """With these (a,b) beside what debootstrap calls minimal."""
        if not shutil.which("debootstrap"):
            run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "debootstrap", timeout=600)
        run("debootstrap", "--variant=minbase", "--include=ca-certificates,iproute2," + packages, "bookworm", self.root,
            os.environ.get("EFS_DEBIAN", "http://deb.debian.org/debian"), timeout=1800)
        shutil.copy("/etc/resolv.conf", os.path.join(self.root, "etc"))

    def before(self, line, timeout=120):
        """Runs this in it before it is booted."""
        return run("chroot", self.root, "bash", "-ec", line, timeout=timeout, env=ENVIRONMENT)

    def boot(self, systemd=True):
        """In namespaces of its own, the network's too; without systemd it has this machine's network, and no init."""
        unified = next(line.split()[1] for line in read("/proc/mounts").decode().splitlines() if line.split()[2] == "cgroup2")
        self.cgroup = os.path.join(unified, f"efs-debian-{os.getpid()}")
        os.mkdir(self.cgroup)
        init = "/lib/systemd/systemd" if systemd else "sleep infinity"
        boot = f'echo $$ >{self.cgroup}/cgroup.procs && exec unshare --pid --fork --mount --cgroup --ipc --uts --kill-child ' \
               f'{"--net env alone=1" if systemd else "env"} root={self.root} init="{init}" bash -ec \'{BOOT}\''
        self.process = subprocess.Popen(["bash", "-c", boot], stdin=subprocess.DEVNULL)
        up = "systemctl is-system-running" if systemd else "cat /proc/1/comm"
        mesh.wait_until("it runs", lambda: self.do(up, check=False).stdout.strip() in ("running", "degraded", "sleep"), 120, 0.5)

    def init(self):
        children = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False)
        return children.stdout.split()[0] if children.stdout.split() else "0"

    def do(self, line, check=True, timeout=120):
        return run("nsenter", "-t", self.init(), "-p", "-m", "-C", "-n", "-i", "-u", "bash", "-c", line, check=check,
                   timeout=timeout, env=ENVIRONMENT)

    def close(self):
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
        time.sleep(1)
        if self.cgroup:
            for path, _, _ in os.walk(self.cgroup, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(path)
        run("rm", "-rf", "--one-file-system", os.path.dirname(self.root), timeout=600)
