"""The network filesystems that efs is compared with, from Debian's packages (tools/packages bench).

Each has its servers in the namespace `server` and its mount in `client`, all files below the run's directory, and
nothing of this machine's own configuration: a mount is one process in the foreground, ended and made again to be cold.
"""
import os
import shutil

from systems import SERVER, Daemon, Failed, System, command, drop_caches, mesh, unmount, wait_until


def needed(package, *programs):
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise Failed(f"{', '.join(missing)} is missing (package {package}): tools/packages bench")


def reaches(bench, port):
    """Whether a server listens there."""
    said = command(*bench.net.inside(bench.net.client), "timeout", "1", "bash", "-c",
                   f"exec 3<>/dev/tcp/{SERVER}/{port} && echo listens", check=False)
    return "listens" in said


class Remote(System):
    """A subclass gives servers() (once a run, for all variants of one kind) and client(): the mount's command."""
    place = "remote"
    kind = None

    def start(self):
        self.mount_point = os.path.join(self.base, "mnt")
        os.makedirs(self.mount_point, exist_ok=True)
        self.daemon = None
        self.servers = self.bench.shared(self.kind)
        try:
            self.mount()
            self.directory = os.path.join(self.mount_point, self.name)
            os.makedirs(self.directory, exist_ok=True)
            self.prepare()
        except BaseException:
            self.stop()
            raise

    def client(self):
        raise NotImplementedError

    def prepare(self):
        pass

    def mount(self):
        self.daemon = Daemon(self.bench.net.inside(self.bench.net.client) + self.client(), os.path.join(self.base, "log"))
        wait_until(f"{self.name} is mounted", lambda: self.daemon.check() and mesh.is_mounted(self.mount_point))
        wait_until(f"{self.name} answers", lambda: os.path.isdir(self.mount_point) and os.statvfs(self.mount_point))

    def unmount(self):
        unmount(self.mount_point)
        if self.daemon is not None:
            self.daemon.stop()

    def cold(self):
        self.unmount()
        drop_caches()
        self.mount()

    def stop(self):
        self.unmount()

    def processes(self):
        return {**self.servers.processes(), "mount": self.daemon.process.pid}


class GlusterServers:
    """glusterd with a volume of one brick for each variant. It keeps its state in fixed places: in a mount namespace
    of its own, our directories lie there."""
    PLACES = {"/var/lib/glusterd": "state", "/var/log/glusterfs": "logs", "/run": "run"}

    def __init__(self, bench):
        needed("glusterfs-server", "glusterd", "gluster", "glusterfs")
        self.base = os.path.join(bench.base, "gluster-servers")
        script = []
        for place, name in self.PLACES.items():
            ours = os.path.join(self.base, name)
            os.makedirs(ours)
            if name == "state":
                command("cp", "-a", f"{place}/.", ours)
            script.append(f"mount --bind {ours} {place}")
        script.append("exec glusterd --no-daemon --log-level=WARNING")
        self.inside = bench.net.inside(bench.net.server)
        self.daemon = Daemon(self.inside + ["unshare", "--mount", "--propagation", "slave", "sh", "-ec", "\n".join(script)],
                             os.path.join(self.base, "glusterd.out"))
        try:
            wait_until("glusterd answers", lambda: self.daemon.check() and self.answers())
        except BaseException:
            self.stop()
            raise

    def gluster(self, *words, check=True):
        return command(*self.inside, "nsenter", f"--mount=/proc/{self.daemon.process.pid}/ns/mnt", "gluster", "--mode=script",
                       *words, check=check)

    def answers(self):
        return "Number of Peers" in self.gluster("peer", "status", check=False)

    def volume(self, name, settings):
        brick = os.path.join(self.base, f"brick-{name}")
        os.makedirs(brick)
        self.gluster("volume", "create", name, f"{SERVER}:{brick}", "force")
        for setting in settings:
            self.gluster("volume", "set", name, *setting)
        self.gluster("volume", "start", name)

    def processes(self):
        return {"glusterd": self.daemon.process.pid}

    def stop(self):
        self.daemon.stop()  # its bricks end with the namespace (Net.close)


class Gluster(Remote):
    name, label = "gluster", "GlusterFS"
    kind = GlusterServers
    settings = ()
    options = ()

    def start(self):
        self.bench.shared(self.kind).volume(self.name, self.settings)
        super().start()

    def client(self):
        return ["glusterfs", "--no-daemon", f"--volfile-server={SERVER}", f"--volfile-id={self.name}", "--process-name", "fuse",
                f"--log-file={self.base}/client.log", "--log-level=WARNING", *self.options, self.mount_point]


class GlusterTuned(Gluster):
    """Its caches as its documentation advises for small files, and as long as they go; but without the group
    `nl-cache`: once the kernel has let go of a directory, 10.3 answers with it that the directory is not there."""
    name, label = "gluster-tuned", "GlusterFS, tuned"
    settings = (("group", "metadata-cache"), ("performance.cache-size", "256MB"),
                ("performance.parallel-readdir", "on"), ("performance.readdir-ahead", "on"),
                ("performance.write-behind-window-size", "8MB"), ("performance.read-ahead-page-count", "8"),
                ("performance.cache-max-file-size", "2MB"), ("performance.io-thread-count", "8"),
                ("client.event-threads", "2"), ("server.event-threads", "2"), ("performance.flush-behind", "on"))
    options = ("--attribute-timeout=600", "--entry-timeout=600", "--negative-timeout=600", "--fopen-keep-cache")


class MooseServers:
    """A master and one chunkserver; both variants are mounts of them."""

    def __init__(self, bench):
        needed("moosefs-master, moosefs-chunkserver, moosefs-client", "mfsmaster", "mfschunkserver", "mfsmount")
        self.base = os.path.join(bench.base, "moose-servers")
        self.daemons = {}
        for name in ("master", "chunkserver", "disk"):
            os.makedirs(os.path.join(self.base, name))
        shutil.copy("/var/lib/mfs/metadata.mfs.empty", os.path.join(self.base, "master", "metadata.mfs"))
        self.write("exports.cfg", "* / rw,alldirs,admin,maproot=0:0")
        self.write("hdd.cfg", f"{self.base}/disk")
        self.write("master.cfg", "WORKING_USER = root", "WORKING_GROUP = root", f"DATA_PATH = {self.base}/master",
                   f"EXPORTS_FILENAME = {self.base}/exports.cfg",
                   *(f"{listener}_LISTEN_HOST = {SERVER}" for listener in ("MATOML", "MATOCS", "MATOCL")))
        self.write("chunkserver.cfg", "WORKING_USER = root", "WORKING_GROUP = root", f"DATA_PATH = {self.base}/chunkserver",
                   f"HDD_CONF_FILENAME = {self.base}/hdd.cfg", f"MASTER_HOST = {SERVER}", f"CSSERV_LISTEN_HOST = {SERVER}")
        try:
            for name in ("master", "chunkserver"):
                self.daemons[name] = Daemon(bench.net.inside(bench.net.server) + [f"mfs{name}", "-f", "-c", f"{self.base}/{name}.cfg",
                                                                                 "start"], f"{self.base}/{name}.out")
            wait_until("MooseFS's master and chunkserver listen",
                       lambda: all(daemon.check() for daemon in self.daemons.values()) and all(
                           reaches(bench, port) for port in (9420, 9421, 9422)), 60)
        except BaseException:
            self.stop()
            raise

    def write(self, name, *lines):
        with open(os.path.join(self.base, name), "w") as file:
            file.write("".join(line + "\n" for line in lines))

    def processes(self):
        return {name: daemon.process.pid for name, daemon in self.daemons.items()}

    def stop(self):
        for daemon in reversed(self.daemons.values()):
            daemon.stop()


class Moose(Remote):
    name, label = "moosefs", "MooseFS"
    kind = MooseServers
    options = ()

    def client(self):
        return ["mfsmount", self.mount_point, "-f", "-H", SERVER, *self.options]

    def prepare(self):
        inside = self.bench.net.inside(self.bench.net.client)
        command(*inside, "mfssetgoal", "-r", "1", self.directory)  # as many copies as there are chunkservers
        wait_until("MooseFS's chunkserver takes data", self.takes_data, 60)

    def takes_data(self):
        path = os.path.join(self.directory, "probe")
        try:
            with open(path, "wb") as file:
                file.write(b"x")
                os.fsync(file.fileno())
            os.unlink(path)
            return True
        except OSError:  # the chunkserver has not told the master of its disk yet
            return False


class MooseTuned(Moose):
    """The kernel's caches kept as long as it lets them be: coherent no more, but as fast as it goes."""
    name, label = "moosefs-tuned", "MooseFS, tuned"
    options = ("-o", "mfscachemode=YES,mfsattrcacheto=600,mfsxattrcacheto=600,mfsentrycacheto=600,mfsdirentrycacheto=600,"
                     "mfsnegentrycacheto=600,mfswritecachesize=512,mfsreadaheadsize=512")


class SshServer:
    """sshd with keys of its own, for our own key alone."""

    def __init__(self, bench):
        needed("openssh-server, sshfs", "sshd", "sshfs", "ssh-keygen")
        self.base = os.path.join(bench.base, "ssh-server")
        os.makedirs(self.base, mode=0o700)
        for name in ("host", "user"):
            command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{self.base}/{name}")
        with open(f"{self.base}/host.pub") as file:
            known = f"{SERVER} " + " ".join(file.read().split()[:2]) + "\n"
        with open(f"{self.base}/known", "w") as file:
            file.write(known)
        with open(f"{self.base}/config", "w") as file:
            file.write(f"ListenAddress {SERVER}:22\nHostKey {self.base}/host\nAuthorizedKeysFile {self.base}/user.pub\n"
                       f"PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"
                       "Subsystem sftp internal-sftp\n")
        # It wants an empty /run/sshd: one of its own.
        os.makedirs(f"{self.base}/run/sshd", mode=0o755)
        script = f"mount --bind {self.base}/run /run\nexec {shutil.which('sshd')} -D -e -f {self.base}/config"
        self.daemon = Daemon(bench.net.inside(bench.net.server) + ["unshare", "--mount", "--propagation", "slave", "sh", "-ec", script],
                             f"{self.base}/log")
        try:
            wait_until("sshd listens", lambda: self.daemon.check() and reaches(bench, 22))
        except BaseException:
            self.stop()
            raise

    def processes(self):
        return {"sshd": self.daemon.process.pid}

    def stop(self):
        self.daemon.stop()


class Sshfs(Remote):
    name, label = "sshfs", "sshfs"
    kind = SshServer

    def client(self):
        base = self.servers.base
        tree = os.path.join(self.base, "tree")
        os.makedirs(tree, exist_ok=True)
        return ["sshfs", f"root@{SERVER}:{tree}", self.mount_point, "-f", "-F", "/dev/null", "-o",
                f"IdentityFile={base}/user,UserKnownHostsFile={base}/known,BatchMode=yes,IdentitiesOnly=yes"]


ALL = [Gluster, GlusterTuned, Moose, MooseTuned, Sshfs]
