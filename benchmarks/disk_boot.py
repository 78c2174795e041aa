"""disk_boot: from process start to init, from an ext4 disk against an initramfs with the same content."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks import installed
from benchmarks.boot import MEMORY, until
from benchmarks.measure import interleaved, report, verdict
from corral.guests import initramfs, kernel
from tests.support import root_image

ROUNDS = 7


def main() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        image = root_image.make(Path(folder) / "root.img")
        corral = [installed.corral(), "boot", kernel.get("small").path, "--memory", f"{MEMORY}M"]
        contenders = {
            "from an ext4 disk": lambda: until([*corral, "--disk", str(image)]),
            "from an initramfs": lambda: until([*corral, "--initrd", initramfs.path()]),
        }
        medians = report("boot to init", interleaved(contenders, ROUNDS), "from an initramfs", "s")
        return verdict("disk / initramfs", medians["from an ext4 disk"] / medians["from an initramfs"], 1.0)


if __name__ == "__main__":
    sys.exit(not main())
