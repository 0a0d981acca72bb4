"""POSIX ACLs with the programs that people use: set on one mount, and what getfacl, cp, tar and rsync make of them on another;
and that they outlive the owner's restart.

The calls themselves are in test/conformance/acls_test.cc.
"""
import os
import unittest

import mesh
from mesh import NearAndFar, run

USER, GROUP = 65533, 65531


def facl(path):
    """What getfacl prints of a tree, by name."""
    return "\n\n".join(sorted(run("getfacl", "-R", "-n", "-p", ".", cwd=path).stdout.strip().split("\n\n"))) + "\n\n"


class Acls(NearAndFar):
    def tree(self, where):
        """A tree with ACLs, made on peer1's mount: its path there, and on peer2's."""
        here = self.mesh[0].path(where, "acls")
        os.makedirs(os.path.join(here, "sub"))
        run("setfacl", "-d", "-m", f"u:{USER}:rwx,g:{GROUP}:rx,o::-", here)
        for name in ("plain", "program", "sub/deep"):
            with open(os.path.join(here, name), "w") as file:
                file.write(name)
        os.mkdir(os.path.join(here, "made"))
        run("setfacl", "-m", f"u:{USER}:r,g:{GROUP}:rw,m::r", os.path.join(here, "program"))
        run("setfacl", "-R", "-m", f"g:{GROUP + 1}:rX", os.path.join(here, "sub"))
        return here, self.mesh[1].path(where, "acls")

    def programs_keep_them(self, where):
        here, there = self.tree(where)
        acls = facl(here)
        self.assertIn(f"user:{USER}:rwx", acls)
        self.assertIn(f"default:group:{GROUP}:r-x", acls)
        self.assertEqual(facl(there), acls)
        run("cp", "-a", here, here + ".cp")
        self.assertEqual(facl(there + ".cp"), acls, "cp -a")
        os.mkdir(there + ".tar")
        run("tar", "--acls", "-C", here, "-cf", here + ".archive", ".")
        run("tar", "--acls", "-C", there + ".tar", "-xpf", there + ".archive")
        self.assertEqual(facl(here + ".tar"), acls, "tar --acls")
        run("rsync", "-aA", there + "/", there + ".rsync/")
        self.assertEqual(facl(here + ".rsync"), acls, "rsync -A")
        # And back from getfacl's text.
        run("setfacl", "-R", "-b", there + ".cp")
        self.assertNotIn(str(USER), facl(here + ".cp"))
        run("setfacl", "--restore=-", cwd=there + ".cp", input=acls)
        self.assertEqual(facl(here + ".cp"), acls, "setfacl --restore")

    def test_programs_keep_them_at_the_owner(self):
        self.programs_keep_them("near")

    def test_programs_keep_them_elsewhere(self):
        self.programs_keep_them("far")

    def test_an_earlier_mode_that_is_still_buffered_does_not_undo_one(self):
        here, there = self.mesh[0].path("near", "late"), self.mesh[1].path("near", "late")
        with open(there, "wb", buffering=0) as file:
            file.write(b"x")
            os.fchmod(file.fileno(), 0o664)
            run("setfacl", "-m", "u::rw,g::-,o::-", here)
            for path in (here, there):
                self.assertEqual(os.stat(path).st_mode & 0o7777, 0o600)
        self.assertEqual(os.stat(here).st_mode & 0o7777, 0o600)

    def test_they_outlive_a_restart_of_the_owner(self):
        there = self.mesh[1].path("near", "kept")
        os.mkdir(there)
        run("setfacl", "-m", f"u:{USER}:r-x", "-d", "-m", f"u:{USER}:rwx", there)
        acls = facl(there)
        self.mesh[0].kill()
        self.mesh[0].run()
        self.assertEqual(facl(there), acls)
        self.assertEqual(facl(self.mesh[0].path("near", "kept")), acls)


if __name__ == "__main__":
    mesh.main()
