"""How a peer with many files starts, and what it holds in memory when nothing goes on: serving and mounted within 2 s, and
less than 64 MiB of its own, whatever the number of files.

The short form makes 5,000 files; EFS_LONG=1 makes 1,000,000, a tenth of them with content.
"""
import os
import time
import unittest

import mesh
from mesh import LONG, Mesh

FILES = 1_000_000 if LONG else 5_000
A_DIRECTORY = 1_000
START_S = 2.0
MEMORY_KIB = 64 << 10
TOUCHED = 200  # files that are looked at after a start


def figure(what):
    print("figure " + what, flush=True)


def private_kib(peer):
    with open(f"/proc/{peer.pid}/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem"))


class Startup(unittest.TestCase):
    def make(self, peer):
        content = os.urandom(300)
        for number in range(FILES):
            directory = peer.path(f"d{number // A_DIRECTORY:06}")
            if number % A_DIRECTORY == 0:
                os.mkdir(directory)
            name = f"{directory}/file-{number:08}"
            if number % 10 == 0:
                with open(name, "wb") as file:
                    file.write(content)
            else:
                os.mknod(name, 0o100644)

    def start(self, peer, how):
        started = time.monotonic()
        peer.run()
        os.listdir(peer.mount)
        seconds = time.monotonic() - started
        time.sleep(3)  # what a start does in the background
        idle = private_kib(peer)
        for step in range(TOUCHED):
            number = step * (FILES // TOUCHED)
            about = os.stat(peer.path(f"d{number // A_DIRECTORY:06}", f"file-{number:08}"))
            self.assertEqual(about.st_size, 300 if number % 10 == 0 else 0)
        figure(f"start {how}: {seconds:.2f} s; idle {idle / 1024:.1f} MiB")
        return seconds, idle

    def test_many_files(self):
        with Mesh(1) as m:
            peer = m[0]
            began = time.monotonic()
            self.make(peer)
            figure(f"{FILES} files made in {time.monotonic() - began:.0f} s")
            time.sleep(3)  # and is checkpointed
            figure(f"idle after that {private_kib(peer) / 1024:.1f} MiB")
            peer.stop(60)
            rows = sum(os.path.getsize(os.path.join(at, "data.mdb"))
                       for at, _, names in os.walk(os.path.join(peer.data, "volumes"))
                       if "data.mdb" in names)
            figure(f"metadata {rows >> 20} MiB on disk")
            clean = self.start(peer, "after a clean stop")
            for number in range(2000):  # not checkpointed
                os.mknod(peer.path(f"more{number}"), 0o100644)
            peer.kill()
            killed = self.start(peer, "after a kill under load")
            for seconds, idle in (clean, killed):
                self.assertLess(seconds, START_S)
                self.assertLess(idle, MEMORY_KIB)
            began = time.monotonic()
            found = sum(len(files) for _, _, files in os.walk(peer.mount))
            self.assertEqual(found, FILES + 2000)
            figure(f"all {found} names listed in {time.monotonic() - began:.0f} s, then {private_kib(peer) / 1024:.1f} MiB")
            peer.stop(60)


if __name__ == "__main__":
    mesh.main()
