"""Wrong input: each is refused with a message that says what, on what, why and what to do, with the right exit code,
and the peers go on serving.

docs/wrong-input.md lists every case of the promise and the test that shows it: those here, with real programs, and
the ones that show it at the layer where it enters.
"""
import contextlib
import errno
import os
import random
import shutil
import socket
import struct
import threading
import time
import unittest

import mesh
from mesh import EFS, KEYS, LONG, PEER, Mesh, read, run, wait_until, write

SOMEBODY = 12345  # a uid that this machine and the mesh know nothing of
AS_SOMEBODY = {"user": SOMEBODY, "group": SOMEBODY, "extra_groups": []}


class Case(unittest.TestCase):
    def refused(self, done, code, *words):
        """The program ended with this code and one line on stderr that has these words."""
        text = done.stderr.strip()
        self.assertEqual(done.returncode, code, f"{done.args}\n{done.stdout}{text}")
        lines = [line for line in text.split("\n") if ": warning: " not in line]
        self.assertEqual(len(lines), 1, text)
        self.assertRegex(lines[0], r"^efs(-peer|-keys)?: ")
        for word in words:
            self.assertIn(word, lines[0])

    def serves(self, *peers):
        """Each of them answers its mount and its socket."""
        for peer in peers:
            self.assertTrue(peer.alive(), f"{peer.name} is dead")
            name = peer.path(f"still-{random.randrange(1 << 40)}")
            with open(name, "w") as file:
                file.write("here")
            with open(name) as file:
                self.assertEqual(file.read(), "here")
            os.unlink(name)
            self.assertTrue(peer.status()["health"].startswith("HEALTH_"))

    def errno_of(self, action):
        with self.assertRaises(OSError) as caught:
            action()
        return caught.exception.errno


class Shared(Case):
    """Two peers that many tests share; each leaves them as they were."""

    @classmethod
    def setUpClass(cls):
        cls.mesh = Mesh(2, unreachable_timeout=3)
        cls.first, cls.second = cls.mesh.peers
        cls.seed = cls.first.seed
        cls.address, cls.invite = cls.seed.removeprefix("efs://").rsplit("/", 1)

    @classmethod
    def tearDownClass(cls):
        cls.mesh.close()

    def tearDown(self):
        self.serves(self.first, self.second)

    def fresh(self):
        return self.mesh.add_peer()

    def join(self, seed, *more, **about):
        peer = self.fresh()
        for name, value in about.items():
            setattr(peer, name, value)
        return peer.join(seed, *more, check=False)


class Joining(Shared):
    def test_invites(self):
        short = self.first.keys("invite", "--for", "1s").stdout.strip()
        made = time.monotonic()
        middle = len(self.invite) // 2
        other = "A" if self.invite[middle] != "A" else "B"
        damaged = self.invite[:middle] + other + self.invite[middle + 1:]
        for broken in (damaged, self.invite[:-9], "AAAA", "/", "%%%", "A" * 20000):
            done = self.join(f"efs://{self.address}/{broken}")
            self.refused(done, 1 if len(broken) > 10000 else 2, "cannot join", "invite")
            self.assertNotIn(broken[:30] if len(broken) > 30 else "\0", done.stderr)  # it is a secret all the same
        self.refused(self.join(self.address), 2, "give the invite", "--invite")
        self.refused(self.join(self.address, "--invite", "/nonexistent"), 5, "/nonexistent")

        once = self.first.keys("invite").stdout.strip()
        third = self.fresh()
        third.join(once)
        self.refused(self.join(once), 3, self.address, "used up", "efs-keys invite")
        third.stop()
        self.first.efs("peer", "rm", third.name, "--yes")

        time.sleep(max(0, 1.5 - (time.monotonic() - made)))
        self.refused(self.join(short), 3, self.address, "the invite ended at", "make a new one there")
        # Whatever the joiner's clock says: it is the mesh's that counts.
        late = self.fresh()
        early = run("faketime", "-f", "-1h", *late.command("join", short, "--data", late.data),
                    *late.serving_options(), check=False)
        self.refused(early, 3, "the invite ended at")

        client = self.first.keys("invite", "--client").stdout.strip()
        for at in (self.first, self.second):  # who orders, and who forwards
            seed = f"efs://{at.host}:{at.port}/{client.rsplit('/', 1)[1]}"
            self.refused(self.join(seed), 1, "client machine", "not served yet", "efs-keys invite")

    def test_clocks_ten_minutes_apart(self):
        for offset in ("+10m", "-10m"):
            peer = self.fresh()
            done = run("faketime", "-f", offset, *peer.command("join", self.seed, "--data", peer.data),
                       *peer.serving_options(), check=False)
            self.refused(done, 1, "the clocks differ by more than 5 minutes", "set the clock")

    def test_addresses(self):
        nobody = mesh.free_port()
        self.refused(self.join(f"efs://127.0.0.1:{nobody}/{self.invite}"), 4, f"127.0.0.1:{nobody}", "refused",
                     "is efs-peer running there")
        self.refused(self.join(f"efs://nosuch.invalid:7400/{self.invite}"), 4, "nosuch.invalid", "does not resolve")
        self.refused(self.join(f"efs://a:b:c/{self.invite}"), 2, "not an address")
        with socket.socket() as silent, socket.socket() as rude:
            for one in (silent, rude):
                one.bind(("127.0.0.1", 0))
                one.listen(5)

            def answer():
                with contextlib.suppress(OSError):
                    caller = rude.accept()[0]
                    caller.recv(1000)
                    caller.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)
                    caller.close()

            thread = threading.Thread(target=answer, daemon=True)
            thread.start()
            self.refused(self.join(f"efs://127.0.0.1:{rude.getsockname()[1]}/{self.invite}"), 3, "handshake",
                         "no efs peer")
            self.refused(self.join(f"efs://127.0.0.1:{silent.getsockname()[1]}/{self.invite}"), 4, "handshake")

    def test_an_address_that_nobody_can_reach(self):
        for at in (self.first, self.second):
            seed = f"efs://{at.host}:{at.port}/{self.invite}"
            peer = self.fresh()
            done = peer.start("join", seed, "--listen", f"127.0.0.1:{peer.port}", "--advertise", "127.0.0.1:9", check=False)
            self.refused(done, 4, "others cannot reach me at 127.0.0.1:9", "pass --advertise")
        self.assertNotIn("127.0.0.1:9", self.first.efs("status").stdout)

    def test_a_port_in_use(self):
        done = self.join(self.seed, "--listen", f"127.0.0.1:{self.first.port}")
        self.refused(done, 1, f"port {self.first.port}", "in use", "choose another port")
        # `run` too, of a member.
        self.second.stop()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", self.second.port))
            taken.listen(1)
            self.refused(self.second.run(check=False), 1, f"port {self.second.port}", "in use")
        self.second.run()

    def test_another_mesh(self):
        with Mesh(1) as other:
            foreign = f"efs://{self.address}/{other[0].seed.rsplit('/', 1)[1]}"
            self.refused(self.join(foreign), 3, self.address, "another mesh", "efs-keys invite")
            self.second.stop()
            self.refused(self.second.join(other[0].seed, check=False), 1, self.second.data, "another mesh",
                         "efs-peer leave")
            self.second.join(self.seed)  # on a member, `join` is `run`
            # A peer of another mesh at the door: it proves nothing, and is told nothing.
            with open(self.first.log) as log:
                self.assertIn("stranger", log.read())
            self.assertTrue(other[0].alive())

    def test_two_peers_on_one_data_directory(self):
        for words in (["run"], ["join", self.seed], ["init"], ["check"]):
            done = run(PEER, *words, "--data", self.first.data, check=False)
            self.refused(done, 1, self.first.data, "another process uses", "stop it first")

    def test_mount_points(self):
        def at(prepare):
            peer = self.fresh()
            peer.mount = prepare(peer)
            done = peer.join(self.seed, check=False)
            self.assertFalse(os.path.exists(os.path.join(peer.data, "genesis")), "it joined all the same")
            return done

        def with_file(peer):
            write(os.path.join(peer.mount, "x"), b"")
            return peer.mount

        def with_disk(peer):
            run("mount", "-t", "tmpfs", "efs-test", peer.mount)
            self.addCleanup(run, "umount", peer.mount)
            return peer.mount

        self.refused(at(lambda peer: peer.base + "/no/such"), 5, "/no/such does not exist", "mkdir -p")
        self.refused(at(with_file), 1, "is not empty", "name an empty directory")
        self.refused(at(with_disk), 1, "is in use", "tmpfs")
        self.refused(at(lambda peer: self.first.mount), 1, "is in use", "another peer")
        self.refused(at(lambda peer: peer.log if write(peer.log, b"") is None else ""), 1, "is not a directory")
        self.refused(self.first.efs("mount", "/etc", check=False), 1, "/etc is not empty")
        self.refused(self.first.efs("mount", "/etc/passwd", check=False), 1, "is not a directory")
        self.refused(self.first.efs("umount", "/etc", check=False), 5, "no mount at /etc")
        # A member whose mount point went bad: `run` says so, and another one is kept.
        self.second.stop()
        write(os.path.join(self.second.mount, "x"), b"")
        self.refused(self.second.run(check=False), 1, "is not empty")
        os.unlink(os.path.join(self.second.mount, "x"))
        self.second.run()

    def test_data_directories(self):
        base = os.path.join(self.mesh.base, f"data-{random.randrange(1 << 30)}")
        os.mkdir(base)
        self.refused(run(PEER, "run", "--data", base + "/none", check=False), 5, base + "/none", "efs-peer join SEED")
        for words in (["run"], ["check"]):
            self.refused(run(PEER, *words, "--data", base, check=False), 5, base, "no data directory")
        self.assertEqual(os.listdir(base), [])  # nor is it made one
        write(base + "/letter", b"")
        for words in (["init"], ["join", self.seed]):
            self.refused(run(PEER, *words, "--data", base, "--keys" if words == ["init"] else "--name", base + "/k",
                             check=False), 1, "there are files in it", "--data")
        self.assertEqual(os.listdir(base), ["letter"])
        os.unlink(base + "/letter")
        write(base + "/format", b"efs data 99\n")
        for words in (["run"], ["check"], ["init"], ["join", self.seed]):
            self.refused(run(PEER, *words, "--data", base, check=False), 1, "efs data 99", "upgrade efs")
        write(base + "/format", b"efs data 1\n")
        self.refused(run(PEER, "run", "--data", base, check=False), 5, "never completed", "efs-peer init")


class Strangers(Shared):
    def knock(self, content=b""):
        caller = socket.create_connection((self.first.host, self.first.port), timeout=10)
        if content:
            caller.sendall(content)
        return caller

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.first.pid}/fd"))

    def test_noise_at_the_door(self):
        seed = mesh.fresh_seed()
        chance = random.Random(seed)
        for round_number in range(400 if LONG else 120):
            length = chance.choice([1, 2, 3, 47, 48, 50, 51, 500, 8194, 60000])
            content = bytearray(chance.randbytes(length))
            if round_number % 2 and length >= 2:  # a length that fits, so that what follows is looked at
                struct.pack_into(">H" if round_number % 4 == 1 else "<H", content, 0, min(length - 2, 8192))
            with contextlib.suppress(OSError):  # it may be closed while this is sent
                caller = self.knock(content)
                if chance.random() < 0.5:
                    caller.shutdown(socket.SHUT_WR)
                    caller.settimeout(7)
                    self.assertEqual(caller.recv(100), b"", "a stranger got an answer")
                caller.close()
        self.serves(self.first)

    def test_half_open_and_thousands(self):
        before = self.descriptors()
        lazy = [self.knock(b"\x00") for _ in range(300)]  # slower than the slowest: one byte, then nothing
        self.serves(self.first, self.second)
        third = self.fresh()
        third.join(self.seed)  # strangers that say nothing keep nobody out
        third.stop()
        self.first.efs("peer", "rm", third.name, "--yes")
        begin = time.monotonic()
        for _ in range(10000 if LONG else 2000):
            self.knock().close()
        self.serves(self.first, self.second)
        print(f"figure thousands of connects: {time.monotonic() - begin:.1f} s", flush=True)
        for caller in lazy:
            caller.close()
        wait_until("its descriptors are back", lambda: self.descriptors() <= before + 8, 20)

    def test_a_middleman_garbles(self):
        """A peer whose connection is damaged on the way: it is cut, made anew, and no byte comes out wrong."""
        port = mesh.free_port()
        stop = threading.Event()
        listener = socket.create_server(("127.0.0.1", port))
        listener.settimeout(0.2)
        chance = random.Random(mesh.fresh_seed())
        damaged = []

        def carry(source, target, damages):
            passed, at = 0, chance.randrange(400, 30000)
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    if damages and passed <= at < passed + len(data):
                        data = bytearray(data)
                        how = chance.choice(["flip", "cut", "twice", "swap"])
                        damaged.append(how)
                        where = at - passed
                        if how == "flip":
                            data[where] ^= 1 << chance.randrange(8)
                        elif how == "cut":
                            del data[where:where + 1]
                        elif how == "twice":
                            data += data[where:]
                        else:
                            data = data[where:] + data[:where]
                    passed += len(data)
                    target.sendall(data)
            for one in (source, target):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

        def accept():
            while not stop.is_set():
                try:
                    caller = listener.accept()[0]
                except OSError:
                    continue
                onward = socket.create_connection((self.first.host, self.first.port))
                damages = len(damaged) < 8
                for pair in ((caller, onward, damages), (onward, caller, False)):
                    threading.Thread(target=carry, args=pair, daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            # The first peer is known to the third at the middleman's address.
            third = self.fresh()
            invite = self.first.keys("invite").stdout.strip().rsplit("/", 1)[1]
            self.mesh.unreachable_timeout, patience = 60, self.mesh.unreachable_timeout
            third.join(f"efs://127.0.0.1:{port}/{invite}", check=False)
            if not third.alive():  # the join itself was what was damaged
                third.join(f"efs://127.0.0.1:{port}/{invite}")
            self.mesh.unreachable_timeout = patience
            for number in range(12):
                content = random.Random(number).randbytes(300000)
                write(third.path(f"through-{number}"), content)
                self.assertEqual(read(self.first.path(f"through-{number}")), content)
                os.unlink(self.first.path(f"through-{number}"))
            third.stop()
            self.first.efs("peer", "rm", third.name, "--yes")
            print(f"figure damaged on the way: {len(damaged)} ({', '.join(sorted(set(damaged)))})", flush=True)
        finally:
            stop.set()
            thread.join()
            listener.close()


# msgpack and the frames of docs/wire-format.md, as little of them as a hostile program needs.
def pack(value):
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return b"\xcf" + struct.pack(">Q", value)
    if isinstance(value, str):
        return b"\xdb" + struct.pack(">I", len(value.encode())) + value.encode()
    if isinstance(value, bytes):
        return b"\xc6" + struct.pack(">I", len(value)) + value
    if isinstance(value, list):
        return b"\xdd" + struct.pack(">I", len(value)) + b"".join(map(pack, value))
    return b"\xdf" + struct.pack(">I", len(value)) + b"".join(pack(k) + pack(v) for k, v in value.items())


class Program:
    """A connection to the control socket, made as a uid."""

    def __init__(self, peer, uid):
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.settimeout(20)
        os.setegid(uid)
        os.seteuid(uid)
        try:
            self.stream.connect(peer.socket)
        finally:
            os.seteuid(0)
            os.setegid(0)
        self.last = 0

    def ask(self, kind, body, payload=b""):
        """'answer' or 'error', and the bytes of its body."""
        self.last += 1
        packed = body if isinstance(body, bytes) else pack(body)
        self.stream.sendall(struct.pack("<IBBHQII", 24 + len(packed) + len(payload), 1, 0x10, kind, self.last, len(packed),
                                        len(payload)) + packed + payload)
        head = self.receive(24)
        _, _, flags, _, _, body_length, payload_length = struct.unpack("<IBBHQII", head)
        answer = self.receive(body_length)
        return {1: "answer", 2: "error"}[flags & 3], answer, self.receive(payload_length)

    def receive(self, length):
        out = b""
        while len(out) < length:
            got = self.stream.recv(length - len(out))
            if not got:
                raise ConnectionError("the peer closed")
            out += got
        return out

    def close(self):
        self.stream.close()


HELLO, COMMAND, RESOLVE, VOLUME, REGISTER, PROPOSE = range(160, 166)


class Rights(Shared):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bin = os.path.join(cls.mesh.base, "bin")  # where everybody may run them
        os.mkdir(cls.bin)
        for program in (EFS, KEYS, PEER):
            shutil.copy(program, cls.bin)
        cls.volume = bytes.fromhex(cls.first.status()["volumes"][0]["id"])

    def as_somebody(self, program, *words):
        return run(os.path.join(self.bin, program), *words, "--socket", self.first.socket, check=False, cwd="/",
                   **AS_SOMEBODY)

    def test_programs_without_the_right(self):
        os.mkdir(self.first.path("roots"))
        for words in (["mount", "/mnt"], ["umount", self.first.mount], ["volume", "create", "/v", "--yes"],
                      ["volume", "rm", "/", "--yes"], ["volume", "set", "/", "replicas=1", "--yes"],
                      ["peer", "rm", self.second.name, "--yes"], ["store", "add", "/tmp/x", "--yes"],
                      ["store", "rm", "/tmp/x", "--yes"], ["mkdir", "/roots/x"], ["rm", "-r", "/roots"],
                      ["chmod", "777", "/roots"], ["chown", "12345", "/roots"], ["mv", "/roots", "/mine"],
                      ["touch", "/file"]):
            self.refused(self.as_somebody("efs", *words), 3)
        for words in (["invite"], ["user", "add", "eve"], ["group", "add", "g"], ["grant", "eve", "rw", "/"],
                      ["admin", "add", "eve"], ["peer", "revoke", self.second.name], ["user", "rm", "nobody"]):
            self.refused(self.as_somebody("efs-keys", *words), 3, "--key FILE")
        for words in (["run"], ["check"]):
            done = run(os.path.join(self.bin, "efs-peer"), *words, "--data", self.first.data, check=False, cwd="/",
                       **AS_SOMEBODY)
            self.refused(done, 3, "Permission denied")
        self.refused(self.as_somebody("efs-peer", "leave", "--data", self.first.data), 3, "run it as root")
        # What anybody may see.
        for program, words in (("efs", ["status"]), ("efs", ["ls", "/"]), ("efs", ["volume", "ls"]), ("efs-keys", ["audit"]),
                               ("efs-keys", ["whoami"]), ("efs-keys", ["grants"])):
            self.assertEqual(self.as_somebody(program, *words).returncode, 0)
        os.rmdir(self.first.path("roots"))

    def request(self, kind, body):
        return {"v": self.volume, "w": {"u": 0, "g": 0}, "b": {"k": kind, "b": body}}

    def test_forged_requests_on_the_socket(self):
        """What a program sends by itself: it is its own uid whatever it says, and comes to nothing by number alone."""
        secret, public = self.first.path("secret"), self.first.path("public")
        write(secret, b"for root's eyes" * 1000)
        os.chmod(secret, 0o600)
        write(public, b"for all")
        os.mkdir(self.first.path("closed"), 0o700)
        inside = self.first.path("closed", "inside")
        write(inside, b"readable, behind a closed door")
        os.chmod(inside, 0o644)
        inode = {path: os.stat(path).st_ino for path in (secret, public, inside)}
        body = lambda path, **more: {"i": inode[path], **more}  # noqa: E731
        somebody = Program(self.first, SOMEBODY)
        try:
            kind, answer, payload = somebody.ask(RESOLVE, {"path": "/public", "follow": True})
            self.assertEqual(kind, "answer")
            kind, answer, payload = somebody.ask(VOLUME, self.request(8, body(public, l=100)))
            self.assertEqual((kind, payload), ("answer", b"for all"))
            self.assertEqual(somebody.ask(RESOLVE, {"path": "/secret", "follow": True})[0], "answer")
            self.assertEqual(somebody.ask(RESOLVE, {"path": "/closed/inside", "follow": True})[0], "error")
            refusals = [
                (8, body(secret, l=100)), (8, body(inside, l=100)), (3, body(inside)), (10, body(inside, n="user.x")),
                (4, body(secret, w=4)), (4, body(public, w=2)), (4, body(public, w=0)), (5, {"i": [inode[public]]}),
                (15, {"o": [inode[secret]]}), (16, {}),
                (36, body(secret, s=0, h=True)), (36, body(secret, s=0)), (36, body(secret, m=0o666)),
                (36, body(public, u=SOMEBODY)), (36, body(public, tm=1, h=True, s=7)),
                (32, {"p": 1, "n": "made", "m": 0o100666}), (32, {"p": 1, "n": "made", "m": 0o100666, "o": True}),
                (33, {"i": inode[inside], "p": 1, "n": "linked"}), (34, {"p": 1, "n": "public"}),
                (35, {"p": 1, "n": "public", "np": 1, "nn": "renamed"}),
                (39, body(public, n="trusted.x", v=b"1")), (40, body(public, n="user.x")),
                (41, {"p": ["junction"], "j": {"v": os.urandom(32), "n": 77}}), (42, {"p": ["x"], "v": self.volume}),
                (43, {"x": 0, "e": b"entry"}),
            ]
            for kind, one in refusals:
                how, answer, payload = somebody.ask(VOLUME, self.request(kind, one))
                self.assertEqual(payload, b"")
                if how == "answer":  # a Reply: its code `c` comes first, and is not ok
                    self.assertIn(answer[1:3], (b"\xa1c",), (kind, one, answer))
            how, answer, _ = somebody.ask(VOLUME, self.request(37, body(secret, o=0)), b"forged")
            self.assertTrue(how == "error" or answer[1:3] == b"\xa1c", answer)
            # A body of a change that the peer would sign, the founder's key being an administrator.
            self.assertEqual(somebody.ask(PROPOSE, {"body": b"\x81\xa1k\x01"})[0], "error")
            for name in ("invite.context", "invite", "leave", "mount", "store.add", "peer.rm"):
                how, answer, _ = somebody.ask(COMMAND, {"name": name, "arguments": "{}"})
                self.assertEqual(how, "error", name)
                self.assertIn(b"run it as root", answer)
            # Nonsense in every kind is an error, or the end of that connection.
            chance = random.Random(mesh.fresh_seed())
            for number in range(300):
                kind = chance.choice([HELLO, COMMAND, RESOLVE, VOLUME, REGISTER, PROPOSE, 0, 16, 96, 255])
                somebody.ask(kind, chance.randbytes(chance.randrange(0, 200)), chance.randbytes(chance.choice([0, 5])))
            how, answer, _ = somebody.ask(COMMAND, {"name": "where", "arguments": "[" * 100000})
            self.assertEqual(how, "error")
        finally:
            somebody.close()
        for flood in (b"\xff" * 100000, struct.pack("<IBBHQII", 0xffffffff, 1, 0x10, 160, 1, 0xffffff00, 0)):
            with contextlib.closing(Program(self.first, SOMEBODY)) as rude:
                rude.stream.sendall(flood)
                self.assertEqual(rude.stream.recv(100), b"")
        # The limit of one user keeps nobody else out.
        crowd = [Program(self.first, SOMEBODY) for _ in range(300)]
        self.serves(self.first)
        for one in crowd:
            one.close()
        self.assertEqual(read(secret), b"for root's eyes" * 1000)
        self.assertEqual(sorted(set(os.listdir(self.first.mount)) & {"closed", "public", "secret", "made", "linked", "renamed",
                                                                     "junction"}), ["closed", "public", "secret"])
        run("rm", "-r", secret, public, self.first.path("closed"))

    def test_modes_of_what_is_secret(self):
        for peer in (self.first, self.second):
            self.assertEqual(os.stat(peer.data).st_mode & 0o7777, 0o700)
            for under, _, files in os.walk(peer.data):
                for name in files:
                    mode = os.stat(os.path.join(under, name)).st_mode & 0o777
                    self.assertEqual(mode & 0o077, 0, f"{under}/{name} has mode {mode:o}")
        keys = os.path.join(self.first.base, "keys")
        self.assertEqual(os.stat(keys).st_mode & 0o777, 0o700)
        for name in ("root.key", "recovery.key"):
            self.assertEqual(os.stat(os.path.join(keys, name)).st_mode & 0o777, 0o600)
        # A directory that was there and open to others is closed when it becomes a data directory.
        third = self.fresh()
        os.mkdir(third.data, 0o755)
        third.join(self.seed)
        self.assertEqual(os.stat(third.data).st_mode & 0o777, 0o700)
        third.stop()
        self.first.efs("peer", "rm", third.name, "--yes")

    def test_a_revoked_peer_is_cut_off(self):
        third = self.fresh()
        third.join(self.seed)
        write(third.path("before"), b"x" * 100000)
        self.first.keys("peer", "revoke", third.name)
        wait_until("the revoked peer stops", lambda: not third.alive(), 10)
        with open(third.log) as log:
            self.assertIn("this peer was revoked from the mesh", log.read())
        for peer in (self.first, self.second):
            self.assertNotIn(third.name, [one["name"] for one in peer.status()["peers"]])
        self.refused(third.run(check=False), 3, "revoked", "join again")
        self.refused(third.join(self.seed, check=False), 3, "revoked")
        os.unlink(self.first.path("before"))

    def test_a_peer_that_may_only_serve_some(self):
        """uids and prefixes of an invite: what it may not, its owner refuses; what it may, works."""
        seed = self.first.keys("invite", "--uids", "20000-29999", "--under", "/theirs").stdout.strip()
        third = self.fresh()
        third.join(seed, "--own", "/theirs/one")
        self.assertEqual(self.errno_of(lambda: write(third.path("root-was-here"), b"")), errno.EACCES)
        self.refused(third.efs("volume", "create", "/elsewhere", "--yes", check=False), 3, "may not make a volume")
        self.refused(third.efs("volume", "create", "/theirs/two", "--on", self.first.name, "--yes", check=False), 3,
                     "on itself only")
        self.refused(third.efs("volume", "rm", "/", "--yes", check=False), 3)
        self.refused(third.efs("peer", "rm", self.second.name, "--yes", check=False), 3)
        self.refused(third.keys("user", "add", "eve", "--out", third.base + "/eve.key", check=False), 3)
        write(self.first.path("theirs", "one", "file"), b"by the first")
        os.unlink(self.first.path("theirs", "one", "file"))
        # The first's kernel may not have forgotten the file yet; until then it is there for whoever has it open.
        wait_until("the volume is removed",
                   lambda: third.efs("volume", "rm", "/theirs/one", "--yes", check=False).returncode == 0)
        third.stop()
        self.first.efs("peer", "rm", third.name, "--yes")
        run("rm", "-r", self.first.path("theirs"))


class Volumes(Shared):
    def create(self, peer, prefix, *more):
        return peer.efs("volume", "create", prefix, "--yes", *more, check=False, errors="replace")

    def test_two_of_one_prefix_at_once(self):
        for number in range(4 if LONG else 2):
            prefix = f"/both{number}"
            outcomes = []

            def make(peer, prefix=prefix, outcomes=outcomes):
                outcomes.append((peer, self.create(peer, prefix, "--on", peer.name)))

            threads = [threading.Thread(target=make, args=[peer]) for peer in (self.first, self.second)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            won = [peer for peer, done in outcomes if done.returncode == 0]
            lost = [done for _, done in outcomes if done.returncode != 0]
            self.assertEqual((len(won), len(lost)), (1, 1), [done.stderr for _, done in outcomes])
            self.refused(lost[0], 1, prefix)
            for peer in (self.first, self.second):
                row = [one for one in peer.status()["volumes"] if one["prefix"] == prefix]
                self.assertEqual(len(row), 1)
            write(self.first.path(prefix[1:], "x"), b"x")
            self.assertEqual(read(self.second.path(prefix[1:], "x")), b"x")
            self.refused(self.first.efs("volume", "rm", prefix, "--yes", check=False), 1, "not empty")
            os.unlink(self.second.path(prefix[1:], "x"))
            # The file counts until the mounts that had it open have said that they closed it.
            wait_until("the volume can be removed",
                       lambda: self.first.efs("volume", "rm", prefix, "--yes", check=False).returncode == 0, 5)

    def test_prefixes(self):
        self.refused(self.create(self.first, "/"), 1, "is there since the mesh was founded")
        os.makedirs(self.first.path("full", "of"))
        self.refused(self.create(self.first, "/full"), 1, "/full", "not empty")
        write(self.first.path("afile"), b"")
        self.refused(self.create(self.first, "/afile"), 1, "/afile")
        self.refused(self.create(self.first, "/afile/below"), 1, "/afile")
        self.refused(self.create(self.first, "/" + "x" * 300), 1, "longer than 255")
        self.refused(self.create(self.first, "/" + "/".join(["x" * 199] * 25)), 1, "longer than")
        for bad in ("/a\nb", "/\udcff\udcfe", "/\x7f"):
            self.refused(self.create(self.first, bad), 2, "UTF-8")
        self.refused(self.create(self.first, "/v", "--on", "nobody"), 5, "no peer 'nobody'")
        self.refused(self.create(self.first, "/v", "--replicas", "3"), 1, "not built yet", "--replicas 1")
        for prefix in ("/a/../b", "relative", "/\udcff"):
            third = self.fresh()
            self.refused(third.join(self.seed, "--own", prefix, check=False), 2, "prefix")
            self.assertFalse(os.path.exists(os.path.join(third.data, "genesis")))
        self.assertEqual(sorted(os.listdir(self.first.mount)), ["afile", "full"])
        self.assertEqual(len(self.first.status()["volumes"]), 1)
        # A junction stays where it is, and so do the directories above it.
        self.first.efs("volume", "create", "/up/down", "--yes")
        self.assertEqual(self.errno_of(lambda: os.rename(self.first.path("up"), self.first.path("moved"))), errno.EBUSY)
        self.assertIn(self.errno_of(lambda: os.rmdir(self.second.path("up", "down"))), (errno.EBUSY, errno.ENOTEMPTY))
        self.first.efs("volume", "rm", "/up/down", "--yes")
        run("rm", "-r", *(self.first.path(name) for name in ("up", "afile", "full")))

    def test_names_that_are_no_text(self):
        name = self.first.path("\udcff\udcfename")
        write(name, b"x" * 100000)
        os.symlink("\udcff\udcfename", self.first.path("link"))
        for words in (["ls", "/"], ["ls", "--json", "/"], ["stat", "/\udcff\udcfename"], ["where", "/link"]):
            done = self.first.efs(*words, errors="replace")
            self.assertEqual(done.returncode, 0)
        done = self.first.efs("where", "/\udcff\udcfename", check=False, errors="replace")
        self.refused(done, 2, "UTF-8")
        os.unlink(name)
        os.unlink(self.first.path("link"))


class Usage(Shared):
    def test_flags_and_settings(self):
        base = os.path.join(self.mesh.base, "usage")
        data = ["--data", os.path.join(base, "data")]
        os.mkdir(base)
        for words in ([], ["bogus"], ["run", "--bogus"], ["join"], ["--data"], ["init", "--listen", "x:y:z"],
                      ["init", "--store", "relative"], ["init", "--store", "/x:big"], ["init", "--name", "a b/c"],
                      ["init", "--log-level", "loud"],
                      ["init", "--unreachable-timeout", "x"], ["join", "efs://"], ["join", ""]):
            self.refused(run(PEER, *words, *(data if words and words != ["--data"] else []), check=False, cwd=base), 2)
        self.assertFalse(os.path.exists(os.path.join(base, "mesh-keys")))
        for text, words in (("nosuch: 1\n", "unknown setting"), ("vfs:\n  nosuch: 1\n", "vfs.nosuch"),
                            ("listen: [x:y:z]\n", "listen"), ("vfs:\n  threads: 1000\n", "1 to 16"),
                            ("mount_read_only: perhaps\n", "true or false"), ("a: [\n", "settings"), ("- list\n", "a map")):
            settings = os.path.join(base, "settings.yaml")
            with open(settings, "w") as file:
                file.write(text)
            self.refused(run(PEER, "init", *data, "--config", settings, check=False, cwd=base), 2, settings, words)
        self.refused(run(PEER, "init", *data, "--config", base + "/none", check=False, cwd=base), 5, base + "/none")
        for words in (["bogus"], ["status", "--bogus"], ["volume"], ["volume", "create"], ["mkdir"], ["chmod", "999", "/"],
                      ["volume", "create", "/v", "--replicas", "x"], ["volume", "set", "/", "bla=3", "--yes"]):
            self.refused(self.first.efs(*words, check=False), 2)
        for words in (["bogus"], ["user"], ["user", "add", "a/b"], ["user", "add", "x" * 40], ["user", "add", "u", "--uid", "x"],
                      ["grant", "a", "xx", "/"], ["grant", "a", "rw", "relative"], ["invite", "--for", "soon"],
                      ["invite", "--for", "0s"], ["invite", "--uses", "0"], ["invite", "--uids", "5-3"],
                      ["invite", "--under", "relative"], ["audit", "--since", "xx"]):
            self.refused(self.first.keys(*words, check=False), 2)

    def test_nobody_there(self):
        nowhere = os.path.join(self.mesh.base, "none")
        for option in ("--socket", "--data"):
            for program, words in ((EFS, ["status"]), (EFS, ["ls", "/"]), (EFS, ["mkdir", "/d"]),
                                   (KEYS, ["user", "ls"]), (KEYS, ["invite"]), (PEER, ["leave"])):
                self.refused(run(program, *words, option, nowhere, check=False), 4, "efs-peer run")
        dead = os.path.join(self.mesh.base, "dead")
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(dead)
        self.refused(run(EFS, "status", "--socket", dead, check=False), 4, dead)
        # The owner of '/' is not there: what another peer is asked waits, then says who is missing.
        self.first.stop()
        self.refused(self.second.efs("ls", "/", check=False), 4)
        self.refused(self.second.keys("group", "add", "g", check=False), 4, self.first.name, "try again when it is back")
        self.refused(self.join(f"efs://{self.second.host}:{self.second.port}/{self.invite}"), 4, self.first.name,
                     "try again when it is back")
        self.first.run()
        wait_until("the second sees the first", lambda: os.path.isdir(self.second.mount) and
                   self.second.efs("ls", "/", check=False).returncode == 0)

    def test_what_is_not_there_or_there_already(self):
        for words in (["ls", "/none"], ["cat", "/none"], ["stat", "/none"], ["where", "/none"], ["where", "@none"],
                      ["volume", "show", "/none"], ["volume", "rm", "/none", "--yes"], ["peer", "show", "none"],
                      ["peer", "rm", "none", "--yes"], ["store", "rm", "/none", "--yes"], ["rm", "/none"]):
            self.refused(self.first.efs(*words, check=False), 5, "none")
        self.refused(self.first.efs("mkdir", "/" + "y" * 256, check=False), 1, "longer than 255")
        key = os.path.join(self.mesh.base, "alice.key")
        self.first.keys("user", "add", "alice", "--uid", "3000", "--out", key)
        self.refused(self.first.keys("user", "add", "alice", "--out", key + "2", check=False), 1, "alice", "already")
        self.refused(self.first.keys("user", "add", "bob", "--uid", "3000", "--out", key + "2", check=False), 1, "3000")
        self.assertFalse(os.path.exists(key + "2"))
        for words in (["user", "rm", "none"], ["user", "show", "none"], ["group", "rm", "none"], ["grant", "none", "rw", "/"],
                      ["revoke", "alice", "/"], ["peer", "revoke", "none"], ["admin", "rm", "none"],
                      ["user", "groups", "alice", "+none"], ["user", "rotate", "none"], ["invite", "--key", "/none"]):
            self.refused(self.first.keys(*words, check=False), 5)
        os.chmod(key, 0o644)
        self.refused(self.first.keys("invite", "--key", key, check=False), 3, "chmod 600")
        os.chmod(key, 0o600)
        self.refused(self.first.keys("invite", "--key", key, check=False), 3)
        write(key, b"no key")
        os.chmod(key, 0o600)
        self.refused(self.first.keys("invite", "--key", key, check=False), 1, key)


class Disks(Case):
    def fill(self, path, limit=1 << 30):
        """Writes until it is refused: the errno."""
        try:
            with open(path, "wb", buffering=0) as file:
                for _ in range(limit >> 20):
                    file.write(os.urandom(1 << 20))  # equal content would be stored once
                    os.fsync(file.fileno())
        except OSError as error:
            return error.errno
        return 0

    def test_a_store_that_is_not_mounted(self):
        with Mesh(2, unreachable_timeout=3, start=False) as m:
            owner = m[0]
            store = os.path.join(owner.base, "store")
            owner.extra = ["--store", store]
            m.start()
            content = os.urandom(2 << 20)
            write(owner.path("big"), content)
            write(owner.path("small"), b"in its inode")
            owner.stop()
            os.rename(store, store + "-away")
            os.mkdir(store)
            owner.run()
            for peer in m.peers:
                wait_until("both are up", lambda p=peer: all(one["state"] == "up" for one in p.status()["peers"]))
                status = peer.status()
                self.assertEqual(status["health"], "HEALTH_ERR")
                self.assertTrue(any(store in reason and "mounted" in reason for reason in status["reasons"]), status["reasons"])
                self.assertEqual(self.errno_of(lambda p=peer: read(p.path("big"))), errno.EIO)
                self.assertEqual(read(peer.path("small")), b"in its inode")
            self.assertIn(self.fill(owner.path("new"), 4 << 20), (errno.ENOSPC, errno.EIO))
            self.assertEqual(os.listdir(store), [], "an unmounted disk's mount point was written to")
            self.serves(*m.peers)
            owner.stop()
            done = run(PEER, "check", "--data", owner.data, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("mounted", done.stdout)
            self.assertEqual(os.listdir(store), [])
            os.rmdir(store)
            os.rename(store + "-away", store)
            owner.run()
            for peer in m.peers:
                wait_until("it is whole again", lambda p=peer: p.status()["health"] != "HEALTH_ERR")
                self.assertEqual(read(peer.path("big")), content)
            owner.stop()
            owner.check()


if __name__ == "__main__":
    mesh.main()
