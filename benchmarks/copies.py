"""copies: what three guests from one image cost together, in disk and in memory.

Each boots from the same 700 MB image with a private layer over it, reads 4 MB of it, writes 4 MB, and then waits to
be looked at.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks import installed
from benchmarks.measure import verdict
from corral.compare.measures.held import proportional, unnamed
from corral.guests import kernel
from corral.guests.parameters import for_command
from corral.images.build import from_folder
from tests.support import root_image

GUESTS = 3
IMAGE, READ, WRITTEN = 700, 4, 4  # MB
MEMORY = 128  # MiB, of each guest
MARK = b"corral: copies"
LIMIT = 300.0  # seconds, for a guest to get there
MB = 1_000_000


def image(folder: Path) -> Path:
    tree = root_image.tree(folder / "root")
    for name, size in (("read", READ), ("rest", IMAGE - READ - 60)):
        (tree / name).write_bytes(os.urandom(size * MB))
    path = folder / "base.img"
    from_folder(str(tree), str(path), IMAGE * MB // (1 << 20) << 20, lambda _: None)
    return path


def start(base: Path, stack: ExitStack) -> subprocess.Popen[bytes]:
    copying = f"dd if=/read of=/own bs=1000000 count={WRITTEN}"
    line = f"cat /read > /dev/null; {copying}; sync; echo {MARK.decode()}; sleep 1000"
    command = [installed.corral(), "boot", kernel.get("small").path, "--memory", f"{MEMORY}M"]
    command += ["--disk", f"{base},snapshot=on", "--append", for_command([line])]
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=nothing)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def wait_for_mark(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    received, deadline = b"", time.monotonic() + LIMIT
    while MARK not in received:
        data = os.read(process.stdout.fileno(), 65536)
        received += data
        if not data or time.monotonic() > deadline:
            raise RuntimeError(f"a guest did not get there; it said {received[-300:]!r}")


def main() -> bool:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, ExitStack() as stack:
        base = image(Path(folder))
        before = base.stat()
        guests = [start(base, stack) for _ in range(GUESTS)]
        for guest in guests:
            wait_for_mark(guest)
        layers = [unnamed(guest.pid) for guest in guests]
        memories = [proportional(guest.pid) for guest in guests]
        after = base.stat()
        if (before.st_mtime_ns, before.st_blocks) != (after.st_mtime_ns, after.st_blocks):
            raise RuntimeError("the image was written to")
    image_size = before.st_blocks * 512
    print(f"\ncopies: {GUESTS} guests from one image, each after reading {READ} MB and writing {WRITTEN} MB (MB)")
    print(f"  {'':34}{'disk':>10}{'memory':>10}")
    print(f"  {'the image':34}{image_size / MB:10.1f}")
    for index, (disk, memory) in enumerate(zip(layers, memories, strict=True)):
        print(f"  {f'guest {index}, its own':34}{disk / MB:10.1f}{memory / MB:10.1f}")
    total = image_size + sum(layers)
    print(f"  {'together':34}{total / MB:10.1f}{sum(memories) / MB:10.1f}")
    return verdict("disk, against a copy of the image for each", total / (GUESTS * image_size), 0.4)


if __name__ == "__main__":
    sys.exit(not main())
