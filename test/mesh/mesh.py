"""Real meshes for tests: processes of efs-peer with real FUSE mounts, on loopback or in network namespaces.

Everything that a Mesh starts, it ends: peers by their process ids, mounts, namespaces, files. Use it as a
context manager. Ports are free ones; files lie in a temporary directory; two runs may go side by side.
"""
import contextlib
import ctypes
import json
import multiprocessing.connection
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("EFS_BUILD", os.path.join(TOP, "build", "release"))
PEER = os.path.join(BUILD, "peer", "efs-peer")
EFS = os.path.join(BUILD, "tools", "efs")
KEYS = os.path.join(BUILD, "tools", "efs-keys")
LONG = os.environ.get("EFS_LONG") == "1"
LIBC = ctypes.CDLL(None, use_errno=True)  # for what Python has no call for


def fresh_seed():
    """The seed of this run: EFS_SEED, or a fresh one, printed."""
    seed = int(os.environ.get("EFS_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed {seed}", flush=True)
    return seed


class Launcher:
    """A process of its own that starts all others.

    A program that is started inherits the files that are open here until its exec, and closing one of a FUSE mount
    asks the mount: a test that holds a file open whose owner is dead could not start that owner.
    """

    def __init__(self):
        self.base = tempfile.mkdtemp(prefix="efs-launch-")
        self.address = os.path.join(self.base, "socket")
        end, self.alive = os.pipe()
        ready, tell = os.pipe()
        if os.fork() == 0:
            os.close(self.alive)
            listener = multiprocessing.connection.Listener(self.address, "AF_UNIX", backlog=64)
            threading.Thread(target=self._serve, args=[listener], daemon=True).start()
            os.close(tell)
            os.read(end, 1)  # until the test is gone, however it ended
            shutil.rmtree(self.base, ignore_errors=True)
            os._exit(0)
        os.close(end)
        os.close(tell)
        os.read(ready, 1)
        os.close(ready)

    def _serve(self, listener):
        while True:
            connection = listener.accept()
            threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    @staticmethod
    def _answer(connection):
        words, options = connection.recv()
        try:
            answer = subprocess.run(words, **options)
        except Exception as error:  # pylint: disable=broad-except
            answer = error
        with contextlib.suppress(OSError):
            connection.send(answer)
        connection.close()

    def run(self, words, options):
        with multiprocessing.connection.Client(self.address, "AF_UNIX") as connection:
            connection.send((words, options))
            answer = connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


launcher = None  # from the first Mesh on


# For git and compilers that a test runs.
ENVIRONMENT = {**os.environ, "CCACHE_DISABLE": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "a",
               "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org"}


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)


def run(*words, check=True, timeout=120, **more):
    """Runs a program to its end; what it printed is in the result. `more` as for subprocess.run."""
    global launcher
    launcher = launcher or Launcher()
    words = [str(word) for word in words]
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True,
               "timeout": timeout, "env": dict(os.environ), "cwd": os.getcwd(), **more}
    if "input" in options:
        del options["stdin"]
    done = launcher.run(words, options)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def wait_until(what, condition, seconds=20.0, step=0.02):
    end = time.monotonic() + seconds
    while True:
        if condition():
            return
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(step)


def is_mounted(path):
    with open("/proc/self/mountinfo") as lines:
        return any(line.split()[4] == path for line in lines)


class Peer:
    def __init__(self, mesh, name, host="127.0.0.1", port=None, namespace=None):
        self.mesh, self.name, self.host, self.namespace = mesh, name, host, namespace
        self.port = port or free_port()
        self.base = os.path.join(mesh.base, name)
        self.data = os.path.join(self.base, "data")
        self.mount = os.path.join(self.base, "mnt")
        self.socket = os.path.join(self.base, "sock")
        self.pid_file = os.path.join(self.base, "pid")
        self.log = os.path.join(self.base, "log")
        self.extra = []
        os.makedirs(self.mount)

    def command(self, *words):
        inside = ["nsenter", f"--net=/run/netns/{self.namespace}"] if self.namespace else []
        return inside + [os.path.join(self.mesh.build, "peer", "efs-peer"), *words]

    def serving_options(self):
        return ["--listen", f"{self.host}:{self.port}", "--advertise", f"{self.host}:{self.port}", "--mount", self.mount,
                "--socket", self.socket, "--unreachable-timeout", str(self.mesh.unreachable_timeout)]

    def start(self, *words, check=True, timeout=60):
        """efs-peer WORDS in the background; returns when it serves and is mounted."""
        return run(*self.command(*words, "--data", self.data, "--detach", "--pid-file", self.pid_file, "--log-file", self.log),
                   *self.extra, check=check, timeout=timeout)

    def init(self, mesh_name="test"):
        out = self.start("init", "--name", mesh_name, "--peer-name", self.name, "--keys", os.path.join(self.base, "keys"),
                         *self.serving_options()).stdout
        self.seed = next(w for w in out.split() if w.startswith("efs://"))
        return self.seed

    def join(self, seed, *more, check=True):
        return self.start("join", seed, "--name", self.name, *self.serving_options(), *more, check=check)

    def run(self, *more, check=True):
        return self.start("run", *more, check=check)

    @property
    def pid(self):
        try:
            with open(self.pid_file) as file:
                return int(file.read())
        except (FileNotFoundError, ValueError):
            return None

    def alive(self):
        pid = self.pid
        if pid is None:
            return False
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return len(os.listdir(f"/proc/{pid}/task")) > 1  # its threads are still ending
            return os.readlink(f"/proc/{pid}/exe").split(" ")[0] == os.path.realpath(self.command()[-1])
        except OSError:
            return False

    def signal(self, number):
        if self.alive():
            os.kill(self.pid, number)

    def kill(self):
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        wait_until(f"{self.name} is dead", lambda: not self.alive(), 30)

    def stop(self, seconds=15):
        self.signal(signal.SIGTERM)
        wait_until(f"{self.name} stopped", lambda: not self.alive(), seconds)

    def efs(self, *words, check=True, **more):
        return run(os.path.join(self.mesh.build, "tools", "efs"), *words, "--socket", self.socket, check=check, **more)

    def keys(self, *words, check=True, **more):
        return run(os.path.join(self.mesh.build, "tools", "efs-keys"), *words, "--socket", self.socket, check=check, **more)

    def status(self):
        return json.loads(self.efs("status", "--json").stdout)

    def check(self):
        """efs-peer check of the stopped peer: what it printed; fails on a problem."""
        return run(*self.command("check", "--data", self.data), timeout=600).stdout

    def path(self, *names):
        return os.path.join(self.mount, *names)


given_ports = set()


def free_port():
    """A port of 127.0.0.1 that nobody listens on: none that the kernel gives to whoever connects, and none twice."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        end = max(int(file.read().split()[0]), 20_000)
    while True:
        port = random.SystemRandom().randrange(10_000, end)
        if port in given_ports:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            given_ports.add(port)
            return port


class Mesh:
    """Peers by name, in order; .base is their directory."""

    def __init__(self, count=3, unreachable_timeout=20, namespaces=False, start=True, build=BUILD):
        self.build = build
        self.base = tempfile.mkdtemp(prefix="efs-test-")
        os.chmod(self.base, 0o755)
        self.unreachable_timeout = unreachable_timeout
        self.peers = []
        self.namespaces = []
        self.bridge = None
        self.use_namespaces = namespaces
        try:
            if namespaces:
                self._make_bridge()
            for _ in range(count):
                self.add_peer()
            if start:
                self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            self.show_logs()
        self.close()

    def __getitem__(self, index):
        return self.peers[index]

    def _make_bridge(self):
        # The bridge has a namespace of its own: nothing of this machine's network changes.
        self.tag = f"{os.getpid() % 100000:05d}{random.randrange(100):02d}"
        self.bridge = f"efs{self.tag}b"
        run("ip", "netns", "add", self.bridge)
        self.namespaces.append(self.bridge)
        run("ip", "-n", self.bridge, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.bridge, "link", "set", "br0", "up")

    def add_peer(self):
        number = len(self.peers) + 1
        name = f"peer{number}"
        if not self.use_namespaces:
            peer = Peer(self, name)
        else:
            space = f"efs{self.tag}n{number}"
            run("ip", "netns", "add", space)
            self.namespaces.append(space)
            run("ip", "-n", space, "link", "set", "lo", "up")
            run("ip", "-n", space, "link", "add", "eth0", "type", "veth", "peer", "name", f"v{number}", "netns", self.bridge)
            run("ip", "-n", self.bridge, "link", "set", f"v{number}", "master", "br0")
            run("ip", "-n", self.bridge, "link", "set", f"v{number}", "up")
            run("ip", "-n", space, "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
            run("ip", "-n", space, "link", "set", "eth0", "up")
            peer = Peer(self, name, host=f"10.77.0.{number}", port=7400, namespace=space)
        self.peers.append(peer)
        return peer

    def start(self):
        seed = self.peers[0].init()
        for peer in self.peers[1:]:
            peer.join(seed)

    def cut(self, peer, off=True):
        """Takes a peer's link down, or brings it back."""
        run("ip", "-n", peer.namespace, "link", "set", "eth0", "down" if off else "up")

    def show_logs(self):
        for peer in self.peers:
            with contextlib.suppress(OSError), open(peer.log) as file:
                print(f"---- {peer.name}'s log ends with\n" + "".join(file.readlines()[-25:]), file=sys.stderr)

    def close(self):
        for peer in self.peers:
            peer.signal(signal.SIGTERM)
        for peer in self.peers:
            with contextlib.suppress(AssertionError):
                wait_until("stop", lambda p=peer: not p.alive(), 10)
            if peer.alive():
                peer.signal(signal.SIGCONT)
                peer.kill()
            if is_mounted(peer.mount):
                run("umount", "-l", peer.mount, check=False)
        for space in self.namespaces:
            run("ip", "netns", "del", space, check=False)
        shutil.rmtree(self.base, ignore_errors=True)



class NearAndFar(unittest.TestCase):
    """Cases that share three peers: /near is the first one's volume, /far the third one's. In the end all are checked."""

    @classmethod
    def setUpClass(cls):
        cls.mesh = Mesh(3)
        cls.addClassCleanup(cls.mesh.close)
        cls.mesh[0].efs("volume", "create", "/near", "--on", "peer1", "--yes")
        cls.mesh[0].efs("volume", "create", "/far", "--on", "peer3", "--yes")

    @classmethod
    def tearDownClass(cls):
        try:
            for peer in cls.mesh.peers:
                peer.stop()
            for peer in cls.mesh.peers:
                peer.check()
        except BaseException:
            cls.mesh.show_logs()
            raise



class DirectoryEach:
    """For a NearAndFar: each case has a directory. .here: on peer1's mount; .there: the same on peer2's. A subclass says where."""
    where = None   # in figures
    prefix = None  # of the volume

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        os.chmod(cls.mesh[0].path(cls.prefix), 0o777)

    def setUp(self):
        name = self._testMethodName
        self.here = self.mesh[0].path(self.prefix, name)
        self.there = self.mesh[1].path(self.prefix, name)
        os.mkdir(self.here)
        os.chmod(self.here, 0o777)
        self.started = time.monotonic()

    def tearDown(self):
        self.figure(self._testMethodName.removeprefix("test_"), time.monotonic() - self.started)

    def figure(self, what, value, unit="s"):
        print(f"figure {what}_{self.where}_{unit} {value:.2f}", flush=True)


def main():
    """Runs the test cases of the calling module and ends with the line that test/run reads."""
    program = unittest.main(exit=False, verbosity=2)
    result = program.result
    bad = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    good = result.testsRun - bad - len(result.skipped)
    if result.skipped:
        bad += len(result.skipped)  # a check that did not run is not a check
    print(f"{good} passed, {bad} failed", flush=True)
    sys.exit(1 if bad else 0)
