"""Coherence: what a call through one mount has finished, the next call sees, through any mount (test/litmus).

Two mounts and three, one of them at the owner. Each case runs 50 rounds (EFS_LONG=1: 10,000, four cases at a time) and prints how
many gave a wrong answer and the longest wait for a call, which must stay under 1 s. Cases that are known to fail are named below,
with why.
"""
import concurrent.futures
import os

import mesh
from mesh import BUILD, LONG, NearAndFar, run

PROGRAM = os.path.join(BUILD, "test", "litmus")
ROUNDS = 10_000 if LONG else 50
KNOWN = {}


class Litmus(NearAndFar):
    def coherent(self, where, *directories):
        failed, known = [], 0
        cases = run(PROGRAM, "1", "--list").stdout.split()
        with concurrent.futures.ThreadPoolExecutor(4 if LONG else 1) as pool:
            answers = pool.map(lambda case: run(PROGRAM, ROUNDS, *directories, "--only", case, check=False, timeout=7200), cases)
            for case, done in zip(cases, answers):
                said = done.stdout.splitlines()[0]
                if done.returncode == 0:
                    print(f"{where}: {said}", flush=True)
                elif case in KNOWN:
                    known += 1
                    print(f"{where}: known   ({KNOWN[case]}) {said}", flush=True)
                else:
                    failed.append(said)
                    print(f"{where}: {said}", flush=True)
        if known:
            print(f"{where}: {known} cases fail as the list in {os.path.basename(__file__)} says", flush=True)
        self.assertEqual(failed, [], where)

    def test_two_mounts_elsewhere(self):
        self.coherent("two", self.mesh[0].path("far"), self.mesh[1].path("far"))

    def test_three_mounts_one_at_the_owner(self):
        self.coherent("three", *(peer.path("near") for peer in self.mesh.peers))


if __name__ == "__main__":
    mesh.main()
