"""Three peers, one tree: what one mount has closed, every mount sees; restarts keep everything."""
import os
import threading
import unittest

import mesh
from mesh import Mesh


def read(path):
    with open(path) as file:
        return file.read()


class ThreePeers(unittest.TestCase):
    def test_write_here_read_there(self):
        with Mesh(3) as m:
            with open(m[0].path("a"), "w") as file:
                file.write("from the owner")
            self.assertEqual(read(m[2].path("a")), "from the owner")
            with open(m[1].path("b"), "w") as file:
                file.write("from elsewhere" * 100000)
            for peer in m.peers:
                self.assertEqual(read(peer.path("b")), "from elsewhere" * 100000)
            os.mkdir(m[2].path("d"))
            os.rename(m[1].path("a"), m[1].path("d", "c"))
            self.assertEqual(sorted(os.listdir(m[0].mount)), ["b", "d"])
            self.assertEqual(os.listdir(m[2].path("d")), ["c"])
            status = m[1].status()
            self.assertEqual([p["state"] for p in status["peers"]], ["up"] * 3)
            self.assertEqual([v["state"] for v in status["volumes"]], ["ok"])

    def test_restart_keeps_everything(self):
        with Mesh(3) as m:
            m[0].keys("user", "add", "alice", "--out", os.path.join(m.base, "alice.key"))
            with open(m[1].path("kept"), "w") as file:
                file.write("kept")
            for peer in m.peers:
                peer.stop()
                self.assertFalse(mesh.is_mounted(peer.mount))
                peer.run()
                self.assertEqual(read(peer.path("kept")), "kept")
            for peer in m.peers:
                self.assertIn("alice", peer.keys("user", "ls").stdout)
            for peer in m.peers:
                peer.stop()
                peer.check()

    def test_a_volume_of_its_own(self):
        with Mesh(3) as m:
            m[0].efs("volume", "create", "/data/second", "--on", "peer2", "--yes")
            with open(m[2].path("data", "second", "x"), "w") as file:
                file.write("on peer2")
            self.assertEqual(read(m[0].path("data", "second", "x")), "on peer2")
            self.assertNotEqual(os.stat(m[0].path("data")).st_ino >> 44, os.stat(m[0].path("data", "second")).st_ino >> 44)
            again = m[1].efs("volume", "create", "/data/second", "--yes", check=False)
            self.assertEqual(again.returncode, 1)
            with self.assertRaises(OSError):
                os.rename(m[0].path("data", "second", "x"), m[0].path("x"))

    def test_a_fourth_joins_under_load(self):
        with Mesh(3) as m:
            stop = threading.Event()
            failures = []

            def write():
                number = 0
                while not stop.is_set():
                    try:
                        with open(m[1].path(f"f{number}"), "w") as file:
                            file.write(str(number))
                        number += 1
                    except OSError as error:
                        failures.append(error)
                self.written = number

            thread = threading.Thread(target=write)
            thread.start()
            try:
                fourth = m.add_peer()
                fourth.join(m[0].seed)
            finally:
                stop.set()
                thread.join()
            self.assertEqual(failures, [])
            self.assertEqual(len(os.listdir(fourth.mount)), self.written)


if __name__ == "__main__":
    mesh.main()
