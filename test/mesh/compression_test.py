"""Compression by a volume's policy: text takes less, reads back the same on every mount, through changes of the policy,
a kill of the owner, and `efs-peer check`; noise is stored as it is."""
import hashlib
import json
import os
import unittest

import mesh
from mesh import Mesh, run, wait_until


def text(seed, size):
    """Like the headers in /usr/include: words that come again and again."""
    out = []
    length = 0
    number = seed
    while length < size:
        number = (number * 1103515245 + 12345) % (1 << 31)
        line = f"extern int function_{number % 5000}(const struct name_{number % 300} *what, unsigned flags_{number % 17});\n"
        out.append(line)
        length += len(line)
    return "".join(out)[:size].encode()


def write(path, content, sync=False):
    with open(path, "wb") as file:
        file.write(content)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


class Compression(unittest.TestCase):
    def shown(self, prefix):
        return json.loads(self.m[1].efs("volume", "show", prefix, "--json").stdout)

    def stored(self, prefix):
        """Bytes on the owner's disk of what is in PREFIX."""
        return self.shown(prefix)["stored_bytes"]

    def set(self, prefix, value):
        self.m[0].efs("volume", "set", prefix, f"compression={value}")
        self.assertEqual(self.shown(prefix)["settings"]["compression"], value)

    def fill(self, prefix, names):
        """Files through the mounts of the owner and of another peer, in turn; {path below the mount: digest}."""
        out = {}
        for number, (name, content) in enumerate(names.items()):
            at = self.m[number % 2].path(prefix.strip("/"), name)
            write(at, content, sync=number % 3 == 0)
            out[os.path.join(prefix.strip("/"), name)] = hashlib.sha256(content).hexdigest()
        return out

    def same(self, files):
        for peer in self.m.peers:
            for name, wanted in files.items():
                self.assertEqual(digest(peer.path(name)), wanted, f"{name} at {peer.name}")

    def test_by_policy(self):
        with Mesh(3) as self.m:
            m = self.m
            self.assertEqual(self.shown("/")["settings"]["compression"], "none")
            m[0].efs("volume", "create", "/text", "--compression", "zstd", "--yes")
            m[0].efs("volume", "create", "/noise", "--on", "peer2", "--yes")
            self.assertEqual(self.shown("/text")["settings"]["compression"], "zstd")
            self.set("/noise", "lz4")  # its owner is another peer, which does as an operator says
            self.assertEqual(m[2].efs("volume", "set", "/noise", "compression=none", check=False).returncode, 3)

            sizes = [100, 3000, 5000, 30000, 200000, 3 << 20]
            files = self.fill("/text", {f"z{n}": text(n, size) for n, size in enumerate(sizes * 2)})
            content = sum(sizes) * 2
            self.assertLess(self.stored("/text"), content * 0.4)
            used = self.shown("/text")["used_bytes"]
            self.assertEqual(used, content)  # what files cover does not depend on it
            whole = m[2].path("text", "z5")
            self.assertEqual(os.stat(whole).st_blocks, (3 << 20) // 512)

            noise = {f"n{n}": os.urandom(size) for n, size in enumerate([9000, 200000, 2 << 20])}
            files |= self.fill("/noise", noise)
            self.assertGreater(self.stored("/noise"), (9000 + 200000 + (2 << 20)))
            self.assertLess(self.stored("/noise"), (9000 + 200000 + (2 << 20)) * 1.01)
            self.same(files)
            self.peer_uses_less(content)

            # A change concerns what is written from then on.
            before = self.stored("/text")
            self.set("/text", "none")
            self.assertEqual(self.stored("/text"), before)
            files |= self.fill("/text", {"plain": text(77, 1 << 20)})
            self.assertGreater(self.stored("/text") - before, 1 << 20)
            before = self.stored("/text")
            self.set("/text", "lz4")
            files |= self.fill("/text", {"quick": text(78, 1 << 20), "quick2": text(79, 1 << 20)})
            self.assertLess(self.stored("/text") - before, 1.4 * (1 << 20))
            with open(m[1].path("text", "z5"), "r+b") as file:  # into the middle of packed chunks
                file.seek(1234567)
                file.write(b"changed")
            files["text/z5"] = digest(m[0].path("text", "z5"))

            m[0].kill()
            m[0].run()
            self.same(files)
            self.assertEqual(self.shown("/text")["settings"]["compression"], "lz4")
            self.space_comes_back(files)
            for peer in m.peers:
                peer.stop()
                peer.check()
            m[0].run()
            for name in files:
                if name.startswith("text/"):
                    self.assertEqual(digest(m[0].path(name)), files[name])

    def peer_uses_less(self, content):
        peer = next(p for p in self.m[0].status()["peers"] if p["name"] == self.m[0].name)
        self.assertLess(peer["used_bytes"], content * 0.4 + 4 * (1 << 20))

    def space_comes_back(self, files):
        before = self.stored("/text")
        for name in ["text/quick", "text/plain"]:
            os.unlink(self.m[1].path(name))
            del files[name]
        wait_until("what was deleted is no longer counted", lambda: self.stored("/text") < before - (1 << 20), 30)

    def test_what_is_refused(self):
        with Mesh(1) as self.m:
            efs = self.m[0].efs
            wrong = efs("volume", "set", "/", "compression=gzip", check=False)
            self.assertEqual(wrong.returncode, 2)
            self.assertIn("none, lz4 and zstd", wrong.stderr)
            self.assertEqual(efs("volume", "set", "/nowhere", "compression=lz4", check=False).returncode, 5)
            self.assertEqual(efs("volume", "create", "/v", "--compression", "gzip", check=False).returncode, 2)
            # Who is not the peer's user may not.
            refused = run("setpriv", "--reuid=65534", "--clear-groups", mesh.EFS, "volume", "set", "/", "compression=lz4",
                          "--socket", self.m[0].socket, check=False)
            self.assertEqual(refused.returncode, 3, refused.stderr)


if __name__ == "__main__":
    mesh.main()
