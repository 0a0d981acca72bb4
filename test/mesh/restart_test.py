"""Kills at random points of init, join and volume create: the same command again works, and nothing is used up twice.
Stopping while others are away, and leaving."""
import os
import random
import signal
import subprocess
import time
import unittest

import mesh
from mesh import LONG, Mesh, PEER, run, wait_until

ROUNDS = 60 if LONG else 5


def kill_after(words, seconds):
    """Starts a command in the foreground, kills it after a while: what it printed, and whether it was killed."""
    process = subprocess.Popen([str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               stdin=subprocess.DEVNULL)
    try:
        out, _ = process.communicate(timeout=seconds)
        return out, False
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0], True


def foreground(peer, *words):
    with open(peer.log, "a") as log:
        return subprocess.Popen(peer.command(*words, "--data", peer.data), stdout=subprocess.DEVNULL, stderr=log,
                                stdin=subprocess.DEVNULL)


def stop(test, process, seconds=5.0):
    """SIGTERM: exit 0 within 5 s."""
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code = process.wait(timeout=30)
    took = time.monotonic() - begin
    test.assertEqual(code, 0)
    test.assertLess(took, seconds + 0.5)  # and what a busy machine takes to tell
    return took


def serves(peer):
    return peer.efs("status", "--json", check=False).returncode == 0


class Kills(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.random = random.Random(mesh.fresh_seed())

    def test_init(self):
        with Mesh(ROUNDS, start=False) as m:
            for peer in m.peers:
                for _ in range(self.random.randrange(1, 4)):
                    kill_after(peer.command("init", "--name", "test", "--peer-name", peer.name, "--keys",
                                            os.path.join(peer.base, "keys"), "--data", peer.data,
                                            *peer.serving_options()), self.random.uniform(0, 0.4))
                    if os.path.exists(os.path.join(peer.data, "genesis")):
                        break
                if os.path.exists(os.path.join(peer.data, "genesis")):
                    peer.run()
                else:
                    peer.init()
                with open(peer.path("x"), "w") as file:
                    file.write("x")
                self.assertEqual(sorted(os.listdir(os.path.join(peer.base, "keys"))), ["recovery.key", "root.key"])
                peer.stop()
                peer.check()

    def test_join(self):
        with Mesh(1) as m:
            stranger = m.add_peer()
            for _ in range(ROUNDS):
                seed = m[0].keys("invite", "--uses", "1").stdout.strip()
                peer = m.add_peer()
                for _ in range(4):
                    kill_after(peer.command("join", seed, "--name", peer.name, "--data", peer.data, *peer.serving_options()),
                               self.random.uniform(0, 0.5))
                peer.join(seed)
                self.assertEqual(os.listdir(peer.mount), os.listdir(m[0].mount))
                refused = stranger.join(seed, check=False)
                self.assertEqual(refused.returncode, 3, refused.stderr)
                self.assertIn("used up", refused.stderr)
            names = [p["name"] for p in m[0].status()["peers"]]
            self.assertEqual(len(names), ROUNDS + 1, names)

    def test_volume_create(self):
        with Mesh(2) as m:
            for number in range(ROUNDS):
                prefix = f"/v{number}"
                command = [mesh.EFS, "volume", "create", prefix, "--on", "peer2", "--yes", "--socket", m[0].socket]
                create = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(self.random.uniform(0, 0.15))
                victim = self.random.choice(m.peers)
                victim.kill()
                victim.run()
                create.wait(timeout=60)
                # Made, or not: then again. A junction without a volume goes after a minute.
                wait_until("both see each other", lambda: all(p["state"] == "up" for p in m[0].status()["peers"]))
                patience = time.monotonic() + 120
                while prefix not in [v["prefix"] for v in m[0].status()["volumes"]]:
                    again = m[0].efs("volume", "create", prefix, "--on", "peer2", "--yes", check=False)
                    if again.returncode == 0:
                        break
                    self.assertIn("exist", again.stderr)
                    if not LONG:
                        break
                    self.assertLess(time.monotonic(), patience, again.stderr)
                    time.sleep(1)
                else:
                    wait_until("it is served", lambda: os.path.isdir(m[0].path(f"v{number}")))
                if prefix in [v["prefix"] for v in m[0].status()["volumes"]]:
                    with open(m[0].path(f"v{number}", "x"), "w") as file:
                        file.write(prefix)
                    with open(m[1].path(f"v{number}", "x")) as file:
                        self.assertEqual(file.read(), prefix)
            for peer in m.peers:
                peer.stop()
                peer.check()

    def test_what_others_wrote_before_the_owner_was_killed(self):
        """A mount has bytes there that it does not know to be on disk; another writes over them, and syncs."""
        with Mesh(3) as m:
            with open(m[1].path("f"), "wb+", buffering=0) as first:
                first.write(b"1" * 8192)
                os.close(os.dup(first.fileno()))  # sends them
                with open(m[2].path("f"), "rb+", buffering=0) as second:
                    second.write(b"2" * 4096)
                    os.fsync(second.fileno())
                m[0].kill()
                m[0].run()
                os.fsync(first.fileno())
                for peer in m.peers:
                    with open(peer.path("f"), "rb") as file:
                        self.assertEqual(file.read(), b"2" * 4096 + b"1" * 4096, peer.name)


class Stopping(unittest.TestCase):
    def test_with_dirty_data_and_its_owner_away(self):
        with Mesh(2) as m:
            m[1].stop()
            process = foreground(m[1], "run")
            wait_until("it is mounted", lambda: mesh.is_mounted(m[1].mount) and serves(m[1]))
            with open(m[1].path("x"), "wb") as file:
                file.write(b"x" * 100000)
                file.flush()
                os.fsync(file.fileno())
                m[0].signal(signal.SIGSTOP)
                file.write(b"y" * 100000)
                file.flush()
                asking = subprocess.Popen([mesh.EFS, "status", "--socket", m[1].socket], stdout=subprocess.DEVNULL,
                                          stderr=subprocess.DEVNULL)
                time.sleep(0.3)
                stop(self, process)
                asking.wait(timeout=10)
                m[0].signal(signal.SIGCONT)
                try:
                    file.close()
                except OSError:
                    pass  # it is told that its bytes are gone
            self.assertFalse(mesh.is_mounted(m[1].mount))
            m[1].run()

    def test_while_it_starts(self):
        with Mesh(2) as m:
            m[0].stop()
            m[1].stop()
            for tenth in range(4):
                process = foreground(m[1], "run")
                time.sleep(0.02 + 0.05 * tenth)
                begin = time.monotonic()
                process.send_signal(signal.SIGTERM)
                self.assertIn(process.wait(timeout=30), (0, -signal.SIGTERM))  # before it looks at signals
                self.assertLess(time.monotonic() - begin, 5.5)
            m[0].run()
            m[1].run()


class Leaving(unittest.TestCase):
    def test_leave_join_again_leave_for_good(self):
        with Mesh(3) as m:
            own = m[2].data
            left = run(*m[2].command("leave", "--data", own, "--socket", m[2].socket))
            self.assertIn("left the mesh", left.stdout)
            wait_until("it ended", lambda: not m[2].alive())
            self.assertFalse(mesh.is_mounted(m[2].mount))
            refused = m[2].run(check=False)
            self.assertEqual(refused.returncode, 3, refused.stderr)
            self.assertIn("left the mesh", refused.stderr)
            self.assertEqual(len(m[0].status()["peers"]), 2)
            m[2].join(m[0].keys("invite").stdout.strip())
            self.assertEqual(len(m[0].status()["peers"]), 3)
            with open(m[2].path("again"), "w") as file:
                file.write("again")
            busy = run(*m[0].command("leave", "--data", m[0].data, "--socket", m[0].socket), check=False)
            self.assertEqual(busy.returncode, 1)
            self.assertIn("/", busy.stderr)
            gone = run(*m[2].command("leave", "--delete-data", "--data", own, "--socket", m[2].socket))
            self.assertIn("deleted", gone.stdout)
            self.assertFalse(os.path.exists(own), gone.stdout)

    def test_removed_by_another(self):
        with Mesh(2) as m:
            m[0].efs("peer", "rm", "peer2", "--yes")
            wait_until("it ended", lambda: not m[1].alive())
            refused = m[1].run(check=False)
            self.assertEqual(refused.returncode, 3, refused.stderr)
            self.assertIn("removed", refused.stderr)
            m[1].join(m[0].keys("invite").stdout.strip())
            self.assertEqual(os.listdir(m[1].mount), [])


if __name__ == "__main__":
    mesh.main()
