"""Power loss on real files: runs power_images (test/images), 8 images, with EFS_LONG=1 100.

EFS_SEED repeats the choices; which moments of the load they fall on is up to the machine's scheduling.
"""
import os
import shutil
import subprocess
import sys
import tempfile

import mesh

seed = mesh.fresh_seed()
directory = os.path.realpath(tempfile.mkdtemp(prefix="efs-images-"))
images = 100 if mesh.LONG else 8
status = subprocess.run([os.path.join(mesh.BUILD, "test", "power_images"), directory, str(images), str(seed)]).returncode
if status == 0:
    shutil.rmtree(directory)
sys.exit(status)
