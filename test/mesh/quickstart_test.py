"""tools/quickstart: three mounts, again, after a kill, and nothing left.

The long form (EFS_LONG=1, as root) begins with a fresh clone on a fresh Debian 12 (debootstrap).
"""
import os
import shutil
import subprocess
import tempfile
import time
import unittest

import mesh
from debian import Debian
from mesh import TOP, run

LIMIT = 600  # s, of the first run: with all packages and the build


class Checks(unittest.TestCase):
    def all_of_it(self, do, base):
        """`do` runs a line in a tree of efs, `base` is where the quickstart lies: the first time, again, after a kill, its end."""
        begun = time.monotonic()
        first = do("tools/quickstart", timeout=1800).stdout
        print(f"figure quickstart: {time.monotonic() - begun:.1f} s", flush=True)
        self.assertLess(time.monotonic() - begun, LIMIT)
        self.assertIn(f"written through {base}/mnt1, read through {base}/mnt3: hello from peer1", first)
        for wanted in ("Go on with:", "efs status", "tools/quickstart --stop"):
            self.assertIn(wanted, first)
        do(f"for n in 1 2 3; do mountpoint {base}/mnt$n && [ \"$(cat {base}/mnt$n/hello.txt)\" = 'hello from peer1' ] || exit; done")
        told = next(line.split("'")[1] for line in first.splitlines() if "alias efs=" in line)
        self.assertIn("HEALTH_", do(f"{told} status").stdout)

        again = do("tools/quickstart").stdout
        self.assertIn("three peers run already:", again)
        pids = [line.split()[2] for line in again.splitlines() if line.startswith("  peer") and " pid " in line]
        self.assertEqual(len(pids), 3)

        do(f"kill -9 {pids[1]}")
        mended = do("tools/quickstart").stdout
        self.assertIn("peer1 runs already", mended)
        self.assertIn("peer2 serves on", mended)
        do(f"[ \"$(cat {base}/mnt2/hello.txt)\" = 'hello from peer1' ]")

        self.assertIn(f"stopped; {base} is gone", do("tools/quickstart --stop").stdout)
        self.assertEqual(do(f"for p in /proc/[0-9]*; do [[ $(readlink $p/exe) = */efs-peer ]] && grep -qaF {base}/ $p/cmdline && echo $p; done; "
                            f"grep -F {base}/ /proc/mounts; ls -d {base}*", check=False).stdout, "")
        self.assertIn("nothing runs", do("tools/quickstart --stop").stdout)


class Here(Checks):
    def test_in_this_tree(self):
        parent = tempfile.mkdtemp(prefix="efs-test-")
        base = os.path.join(parent, "quickstart")
        environment = {**os.environ, "EFS_QUICKSTART_DIR": base}

        def do(line, check=True, timeout=240):
            return run("bash", "-c", line, check=check, timeout=timeout, cwd=TOP, env=environment)
        try:
            self.all_of_it(do, base)
        finally:
            subprocess.run([os.path.join(TOP, "tools/quickstart"), "--stop"], env=environment, check=False, capture_output=True)
            shutil.rmtree(parent)


if mesh.LONG:
    class Fresh(Checks):
        def test_a_fresh_clone_on_a_fresh_debian(self):
            machine = Debian()
            try:
                machine.make("git")
                run("git", "clone", "-q", f"file://{TOP}", os.path.join(machine.root, "root", "efs"), timeout=300)
                machine.before("apt-get update -qq", timeout=600)
                machine.boot(systemd=False)

                def do(line, check=True, timeout=240):
                    return machine.do(f"cd /root/efs && {{ {line}\n}}", check=check, timeout=timeout)
                self.all_of_it(do, "/tmp/efs-quickstart")
                self.assertEqual(do("ls -A /tmp").stdout, "")
            finally:
                machine.close()


if __name__ == "__main__":
    mesh.main()
