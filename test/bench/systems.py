"""The filesystems that test/bench/compare measures: each is started, made cold, and ended here.

All servers listen in network namespaces that are made for the run, joined by one pair of veth devices: `server` is
10.79.0.1, `client` 10.79.0.2. Every process is ended by its id; what is left in our namespaces at the end is killed.
"""
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "mesh"))
import mesh  # noqa: E402  pylint: disable=wrong-import-position

SERVER, CLIENT = "10.79.0.1", "10.79.0.2"
FSLOAD = os.path.join(mesh.BUILD, "test", "fsload")
MIRROR = os.path.join(mesh.BUILD, "test", "mirror")


class Failed(Exception):
    """A system could not be started, or a load on it failed."""


def command(*words, timeout=120, check=True, **more):
    """Runs a program to its end, in a session of its own: its output."""
    words = [str(word) for word in words]
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                   start_new_session=True, **more)
        try:
            status = process.wait(timeout)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)  # one that hangs in a mount ends with the mount
            if isinstance(error, subprocess.TimeoutExpired):
                raise Failed(f"{' '.join(words[:4])}: not within {timeout} s") from error
            raise
        out.seek(0)
        text = out.read()
    if check and status != 0:
        raise Failed(f"{' '.join(words)}: exit {status}: {text.strip()[-500:]}")
    return text


def wait_until(what, condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(0.02)


NAMES, EVERYTHING = 2, 3  # what drop_caches() drops: names and inodes; pages, too


def drop_caches(what=EVERYTHING):
    """The kernel's caches, to the last: what FUSE mounts let go of lets go of more below them."""
    for _ in range(2):
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write(f"{what}\n")
        time.sleep(0.1)


def unmount(path):
    if not mesh.is_mounted(path):
        return
    for _ in range(50):
        if subprocess.run(["umount", path], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return
        time.sleep(0.1)
    subprocess.run(["umount", "-l", path], check=False)


class Daemon:
    """A server in the foreground of a process of its own; stop() ends it."""

    def __init__(self, words, log, **more):
        self.log = log
        with open(log, "ab") as out:
            self.process = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=subprocess.STDOUT, start_new_session=True, **more)

    def check(self):
        if self.process.poll() is not None:
            with open(self.log, errors="replace") as file:
                raise Failed(f"{self.process.args[0]} ended: {file.read()[-500:]}")
        return True

    def stop(self, seconds=10):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


class Net:
    """Two network namespaces joined by a pair of veth devices."""

    def __init__(self):
        tag = f"{os.getpid() % 100000:05d}{random.randrange(100):02d}"
        self.server, self.client = f"efs{tag}s", f"efs{tag}c"
        try:
            for space in (self.server, self.client):
                command("ip", "netns", "add", space)
                command("ip", "-n", space, "link", "set", "lo", "up")
            command("ip", "-n", self.server, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns",
                    self.client)
            for space, address in ((self.server, SERVER), (self.client, CLIENT)):
                command("ip", "-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
                command("ip", "-n", space, "link", "set", "eth0", "up")
        except BaseException:
            self.close()
            raise

    @staticmethod
    def inside(space):
        return ["nsenter", f"--net=/run/netns/{space}"]

    def close(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            left = self.processes()
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            end = time.monotonic() + 5
            while self.processes() and time.monotonic() < end:
                time.sleep(0.05)
        for space in (self.server, self.client):
            command("ip", "netns", "del", space, check=False)

    def processes(self):
        """Those in our namespaces: all started by us, or by those."""
        return [int(pid) for space in (self.server, self.client)
                for pid in command("ip", "netns", "pids", space, check=False).split() if pid.isdigit()]


class System:
    """.directory is where loads work. A system's start() undoes itself if it fails."""
    name = label = None
    place = "local"  # local; owner: beside its data; remote: one peer away

    def __init__(self, bench):
        self.bench = bench
        self.base = os.path.join(bench.base, self.name)
        self.directory = None
        os.makedirs(self.base, exist_ok=True)

    def start(self):
        raise NotImplementedError

    def cold(self):
        drop_caches()

    def stop(self):
        pass

    def processes(self):
        """Of its own, for memory and profiles: {what: pid}."""
        return {}


class Ext4(System):
    name, label = "ext4", "ext4"

    def start(self):
        self.directory = os.path.join(self.base, "tree")
        os.makedirs(self.directory, exist_ok=True)


class Mirror(System):
    """With one thread: no request waits for another thread to wake."""
    name, label, place = "mirror", "FUSE mirror", "owner"
    options = ("--threads", "1")

    def start(self):
        source, self.directory = os.path.join(self.base, "source"), os.path.join(self.base, "mnt")
        os.makedirs(source)
        os.makedirs(self.directory)
        self.daemon = Daemon([MIRROR, source, self.directory, *self.options], os.path.join(self.base, "log"))
        try:
            wait_until("the mirror is mounted", lambda: mesh.is_mounted(self.directory) or not self.daemon.check())
        except BaseException:
            self.stop()
            raise

    def stop(self):
        unmount(self.directory)
        self.daemon.stop()

    def processes(self):
        return {"mirror": self.daemon.process.pid}


class MirrorThreads(Mirror):
    """With libfuse's usual ten: large reads overlap."""
    name, label = "mirror-threads", "FUSE mirror, ten threads"
    options = ("--threads", "10")


class EfsMesh:
    """Two peers: the first owns a volume for each mount, the second mounts the tree too. `build` is whose programs run."""

    def __init__(self, bench, build, port):
        self.mesh = mesh.Mesh(0, start=False, build=build)
        try:
            # The harness's directory is replaced by one that lies where all the others lie.
            shutil.rmtree(self.mesh.base)
            self.mesh.base = os.path.join(bench.base, f"mesh{port}")
            os.makedirs(self.mesh.base)
            for name, host, space in (("owner", SERVER, bench.net.server), ("elsewhere", CLIENT, bench.net.client)):
                self.mesh.peers.append(mesh.Peer(self.mesh, name, host=host, port=port, namespace=space))
            self.mesh.start()
            for name in ("owner", "elsewhere"):
                self.mesh[0].efs("volume", "create", f"/{name}", "--on", "owner", "--yes")
            wait_until("both mounts see the volumes",
                       lambda: all(os.path.isdir(peer.path(name)) for peer in self.mesh.peers for name in ("owner", "elsewhere")))
        except BaseException:
            self.close()
            raise

    def close(self):
        self.mesh.close()


class Efs(System):
    """At the owner."""
    name, label, place = "efs", "efs, at the owner", "owner"
    peer_number = 0
    build = mesh.BUILD

    def start(self):
        self.peer = self.bench.efs_mesh(self.build)[self.peer_number]
        self.directory = self.peer.path(self.peer.name)

    def processes(self):
        return {peer.name: peer.pid for peer in self.peer.mesh.peers}


class EfsElsewhere(Efs):
    name, label, place = "efs-elsewhere", "efs, elsewhere", "remote"
    peer_number = 1

    def cold(self):
        self.peer.efs("umount", self.peer.mount)
        drop_caches()
        self.peer.efs("mount", self.peer.mount)


class Bench:
    """What a run has in common; close() ends all of it."""

    def __init__(self, directory=None, keep=False):
        self.base = tempfile.mkdtemp(prefix="efs-bench-", dir=directory)
        os.chmod(self.base, 0o755)
        self.keep = keep
        self.systems = []
        self._shared = {}
        self._meshes = {}
        self._net = None

    @property
    def net(self):
        if self._net is None:
            self._net = Net()
        return self._net

    def efs_mesh(self, build=mesh.BUILD):
        if build not in self._meshes:
            self._meshes[build] = EfsMesh(self, build, 7400 + len(self._meshes))
        return self._meshes[build].mesh

    def shared(self, kind):
        """The servers that several systems use, started by the first."""
        if kind not in self._shared:
            self._shared[kind] = kind(self)
        return self._shared[kind]

    def start(self, kinds, say):
        """Network filesystems first: their servers' mount namespaces must not hold the mounts of the others."""
        for kind in sorted(kinds, key=lambda kind: not hasattr(kind, "kind")):
            say(f"starts {kind.name}")
            system = kind(self)
            system.start()
            self.systems.append(system)
        self.systems.sort(key=lambda system: kinds.index(type(system)))

    def close(self):
        problems = []

        def attempt(what, action):
            try:
                action()
            except Exception as error:  # pylint: disable=broad-except
                problems.append(f"{what}: {error}")

        for system in reversed(self.systems):
            attempt(system.name, system.stop)
        for kind, servers in self._shared.items():
            attempt(kind.__name__, servers.stop)
        for one in self._meshes.values():
            attempt("efs", one.close)
        if self._net is not None:
            attempt("network", self._net.close)
        for line in open("/proc/self/mountinfo"):
            path = line.split()[4]
            if path.startswith(self.base + "/"):
                attempt(path, lambda at=path: command("umount", "-l", at))
        if not self.keep:
            attempt(self.base, lambda: command("rm", "-rf", "--one-file-system", self.base, timeout=3600))
        return problems


def of_build(build):
    """Both mounts of another build of efs, to be measured in turn with this one."""
    return [type("Efs2", (Efs,), {"name": "efs2", "label": "efs of the other build, at the owner", "build": build}),
            type("EfsElsewhere2", (EfsElsewhere,),
                 {"name": "efs2-elsewhere", "label": "efs of the other build, elsewhere", "build": build})]


LOCAL = [Ext4, Mirror, MirrorThreads, Efs, EfsElsewhere]  # what needs no packages
