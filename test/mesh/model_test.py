"""Random calls on efs, on ext4 and on a model in memory, which must agree (test/model): at a volume's owner, elsewhere, and
through two mounts in turn.

Short form: fixed seeds and a fresh one (printed). Long form (EFS_LONG=1): 1,000,000 steps on one mount, 200,000 on two.
"""
import os
import random
import shutil
import tempfile

import mesh
from mesh import BUILD, LONG, NearAndFar, fresh_seed, run

PROGRAM = os.path.join(BUILD, "test", "model")
FIXED = [1, 2]
STEPS = {"owner": 1_000_000, "elsewhere": 100_000, "two": 200_000} if LONG else {"owner": 2000, "elsewhere": 700, "two": 700}


class Model(NearAndFar):
    @classmethod
    def setUpClass(cls):
        cls.ext4 = tempfile.mkdtemp(prefix="efs-test-")
        cls.addClassCleanup(shutil.rmtree, cls.ext4, ignore_errors=True)
        super().setUpClass()

    def agrees(self, where, *directories):
        for seed in [random.Random(fresh_seed()).randrange(1 << 32)] + ([] if LONG else FIXED):
            done = run(PROGRAM, STEPS[where], seed, self.ext4, *directories, check=False, timeout=3600)
            print(f"{where}: {done.stdout.rstrip()}", flush=True)
            self.assertEqual(done.returncode, 0, f"{where}, seed {seed}: they differ")

    def test_at_the_owner(self):
        self.agrees("owner", self.mesh[0].path("near"))

    def test_elsewhere(self):
        self.agrees("elsewhere", self.mesh[0].path("far"))

    def test_two_mounts(self):
        self.agrees("two", self.mesh[0].path("far"), self.mesh[1].path("far"))

    def test_two_mounts_one_at_the_owner(self):
        self.agrees("two", self.mesh[0].path("near"), self.mesh[1].path("near"))


if __name__ == "__main__":
    mesh.main()
