"""What guest.c writes step by step, and whether a file system has what the steps that are done have synced."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

SLOTS, PIECES, PIECE, SECTOR = 6, 8, 2048, 512
# All that e2fsck says of a file system whose journal makes it whole. A mount puts the counts right as well, and the
# inodes that were unlinked or cut while they were open.
WHOLE = re.compile(
    r"|Pass \d.*|.*: recovering journal|Free (blocks|inodes) count wrong .*|Fix\? yes"
    r"|(Clearing|Truncating) orphaned inode .*|.*: \*{5} FILE SYSTEM WAS MODIFIED \*{5}|.*: \d+/\d+ files .*"
)


def content(step: int, length: int) -> bytes:
    text = bytearray((step * 131 + i * 17 + (i >> 8) * 29) & 0xFF for i in range(length))
    text[:9] = b"%07u\n" % step + bytes([step & 0xFF])
    return bytes(text)


def replacing(step: int) -> bytes:
    return content(step, 200 + step * 797 % 6000)


def appended(step: int) -> bytes:
    return content(step, 64 + step * 331 % 1500)


def losses(image: bytes | bytearray, done: int, folder: Path, ahead: int = 1) -> list[str]:
    """What is wrong with the image of a guest that had told of so many steps. It may have been anywhere in the next, or
    `ahead` by more where a kill can lose what it told.

    e2fsck replays the journal, as a mount would, and may find nothing else to repair; debugfs reads the files.
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path, out = Path(name, "image"), Path(name, "out")
        path.write_bytes(image)
        out.mkdir()
        check = subprocess.run(["e2fsck", "-fy", str(path)], capture_output=True, text=True)
        damage = [line for line in check.stdout.splitlines() if not WHOLE.fullmatch(line)]
        if check.returncode not in (0, 1) or damage:
            return [f"e2fsck says {check.returncode}: {line}" for line in damage or [check.stderr]]
        subprocess.run(["debugfs", "-R", f"rdump / {out}", str(path)], capture_output=True, check=True)
        return list(lost(out, done, ahead))


def lost(out: Path, done: int, ahead: int = 1) -> Iterator[str]:
    """By the files of the file system, which are in the folder `out`."""

    def read(name: str) -> bytes:
        return (out / name).read_bytes() if (out / name).exists() else b""

    for slot in range(SLOTS):
        steps = latest([step for step in range(3, done + ahead + 1, 3) if step // 3 % SLOTS == slot], done)
        if steps and steps[0] <= done and read(f"r{slot}") not in map(replacing, steps):
            yield f"r{slot} is not what step {steps[0]} has made of it"
    if not read("log").startswith(b"".join(appended(step) for step in range(1, done + 1, 3))):
        yield "the log lacks something"
    data = read("data")
    for piece in range(PIECES):
        steps = latest([step for step in range(2, done + ahead + 1, 3) if step // 3 % PIECES == piece], done)
        if not steps or steps[0] > done:
            continue
        for at in range(0, PIECE, SECTOR):
            found = data[piece * PIECE + at : piece * PIECE + at + SECTOR]
            if found not in [content(step, PIECE)[at : at + SECTOR] for step in steps]:
                yield f"byte {at} of piece {piece} is not what step {steps[0]} has made of it"


def latest(steps: list[int], done: int) -> list[int]:
    """Of these steps the last that is done, if one is, and those that may be under way or done since."""
    return [step for step in steps if step <= done][-1:] + [step for step in steps if step > done]
