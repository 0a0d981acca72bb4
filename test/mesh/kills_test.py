"""SIGKILL at random moments, under load from every mount: nothing that was answered is lost.

Short form: each of three peers is killed twice; long form (EFS_LONG=1): 17 times each. Every peer owns a volume; each
mount writes, renames and removes in every volume. What was closed, fsynced or answered as a metadata operation is
noted by the writers, and must be there at the end, seen from every mount; what was under way when a peer died may be
old or new. A file that is open on a living mount goes on. The killed peer's own mount is back within 2 s of its
restart. At the end every peer is stopped and `efs-peer check` finds nothing.
"""
import hashlib
import os
import random
import threading
import time
import unittest

import mesh
from mesh import LONG, Mesh, wait_until

ROUNDS = 17 if LONG else 2
PREFIXES = ["first", "second", "third"]


class Writer(threading.Thread):
    """Works in one directory of its own through one mount; knows what must be there."""

    def __init__(self, peer, prefix, seed):
        super().__init__(daemon=True)
        self.peer, self.random = peer, random.Random(seed)
        self.under = os.path.join(prefix, f"by-{peer.name}")
        self.certain = {}    # name -> content hash, or None: certainly not there
        self.uncertain = {}  # name -> the hashes (None: absent) that it may have
        self.stop = threading.Event()
        self.operations = self.errors = 0

    def at(self, name):
        return self.peer.path(self.under, name)

    def allowed(self, name):
        if name in self.uncertain:
            return self.uncertain[name]
        return {self.certain.get(name)}

    def settle(self, name, value):
        self.certain[name] = value
        self.uncertain.pop(name, None)

    def attempt(self, changes, action):
        """changes: name -> value after; noted as certain when action() returned, as either when it did not."""
        before = {name: set(self.allowed(name)) for name in changes}
        try:
            action()
        except OSError:
            self.errors += 1
            for name, value in changes.items():
                self.uncertain[name] = before[name] | {value}
            time.sleep(0.05)
            return
        self.operations += 1
        for name, value in changes.items():
            self.settle(name, value)

    def step(self):
        dice = self.random.random()
        names = [n for n, v in self.certain.items() if v is not None and n not in self.uncertain]
        if dice < 0.6 or not names:
            name = f"f{self.random.randrange(400)}"
            content = self.random.randbytes(self.random.choice([10, 1500, 5000, 70_000, 1_300_000]))
            sync = self.random.random() < 0.3

            def write():
                with open(self.at(name), "wb") as file:
                    file.write(content)
                    if sync:
                        file.flush()
                        os.fsync(file.fileno())

            before = set(self.allowed(name))
            self.attempt({name: hashlib.sha256(content).hexdigest()}, write)
            if name in self.uncertain:  # truncated, and some of it written
                self.uncertain[name] = before | {"any"}
        elif dice < 0.8:
            old, new = self.random.choice(names), f"f{self.random.randrange(400)}"
            if old != new:
                value = self.certain[old]
                self.attempt({old: None, new: value}, lambda: os.rename(self.at(old), self.at(new)))
        else:
            name = self.random.choice(names)
            self.attempt({name: None}, lambda: os.unlink(self.at(name)))

    def run(self):
        while not self.stop.is_set():
            self.step()
            time.sleep(0.005)  # nine of these share the machine with three peers

    def verify(self, peer):
        bad = []
        present = set(os.listdir(peer.path(self.under)))
        for name in set(self.certain) | set(self.uncertain) | present:
            allowed = self.allowed(name)
            if "any" in allowed:
                continue
            found = None
            if name in present:
                with open(peer.path(self.under, name), "rb") as file:
                    found = hashlib.sha256(file.read()).hexdigest()
            if found not in allowed:
                bad.append(f"{peer.name}: {self.under}/{name} is {found and found[:8]}, not one of {allowed}")
        return bad


class OpenFile(threading.Thread):
    """A file that stays open on one mount, in another peer's volume, and is appended to and synced."""

    def __init__(self, peer, prefix):
        super().__init__(daemon=True)
        self.path = peer.path(prefix, f"open-{peer.name}")
        self.peer, self.lines, self.stop, self.failed = peer, 0, threading.Event(), None

    def run(self):
        try:
            with open(self.path, "w") as file:
                while not self.stop.is_set():
                    file.write(f"{self.lines}\n")
                    file.flush()
                    os.fsync(file.fileno())
                    self.lines += 1
                    time.sleep(0.02)
        except OSError as error:
            self.failed = error


class Kills(unittest.TestCase):
    def test_nothing_answered_is_lost(self):
        seed = mesh.fresh_seed()
        rng = random.Random(seed)
        with Mesh(3, unreachable_timeout=60) as m:
            for number, prefix in enumerate(PREFIXES):
                m[0].efs("volume", "create", f"/{prefix}", "--on", f"peer{number + 1}", "--yes")
            writers = [Writer(peer, prefix, rng.random()) for peer in m.peers for prefix in PREFIXES]
            for writer in writers:
                os.mkdir(m[0].path(writer.under))
            for writer in writers:
                writer.start()
            order = [peer for peer in m.peers for _ in range(ROUNDS)]
            rng.shuffle(order)
            back = []
            for victim in order:
                others = [peer for peer in m.peers if peer is not victim]
                held = [OpenFile(peer, PREFIXES[m.peers.index(victim)]) for peer in others]
                for file in held:
                    file.start()
                time.sleep(rng.uniform(0.3, 2.0))
                victim.kill()
                time.sleep(rng.uniform(0, 0.5))
                start = time.monotonic()
                victim.run()
                os.listdir(victim.mount)
                back.append(time.monotonic() - start)
                before = [file.lines for file in held]
                for file, lines in zip(held, before):
                    wait_until(f"the file open on {file.peer.name} goes on", lambda f=file, n=lines: f.lines > n + 3, 30)
                for file in held:
                    file.stop.set()
                    file.join(30)
                    self.assertIsNone(file.failed)
                    with open(file.path) as lines:
                        self.assertEqual(lines.read(), "".join(f"{i}\n" for i in range(file.lines)))
            for writer in writers:
                writer.stop.set()
            for writer in writers:
                writer.join(90)
                self.assertFalse(writer.is_alive(), "a writer hangs")
            bad = [line for writer in writers for peer in m.peers for line in writer.verify(peer)]
            print(f"figure kills {len(order)}")
            print(f"figure operations {sum(w.operations for w in writers)} interrupted {sum(w.errors for w in writers)}")
            print(f"figure mount_back_s max {max(back):.2f} median {sorted(back)[len(back) // 2]:.2f}")
            self.assertEqual(bad, [])
            for peer in m.peers:
                peer.stop()
            for peer in m.peers:
                peer.check()
            print("figure checks without a problem 3")
            self.assertLess(max(back), 2.0)


if __name__ == "__main__":
    mesh.main()
