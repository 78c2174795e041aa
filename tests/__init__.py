"""The tests of Corral."""

import os

# Where mke2fs and blkid are, which not every user's PATH has.
os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
