"""What is fuzzed of Corral's Python: a module each. In it

one(data)   takes one input, and raises for a finding
SEEDS       inputs to begin with
LONGEST     bytes of an input
CONCERNED   the modules of Corral whose lines count
"""

from __future__ import annotations

import os
import shutil
import tempfile

_OWN = "corral-fuzz-"


def own_folder() -> str:
    """An empty one, in memory where there is such a place. Atheris ends without a word, so those of processes that are
    gone go when the next one begins."""
    place = "/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()
    for name in os.listdir(place):
        if name.startswith(_OWN) and not os.path.exists(f"/proc/{name.removeprefix(_OWN).partition('-')[0]}"):
            shutil.rmtree(os.path.join(place, name), ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"{_OWN}{os.getpid()}-", dir=place)


class MemoryFile:
    """A file in memory; what is in it is replaced at each input. `path` is for who opens files by name."""

    def __init__(self) -> None:
        self._fd = os.memfd_create("input")
        self.path = f"/proc/self/fd/{self._fd}"

    def put(self, data: bytes, size: int | None = None) -> str:
        """Returns the path. `size`: zeros follow, up to that."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, data, 0)
        if size is not None:
            os.ftruncate(self._fd, size)
        return self.path


def one_line(error: Exception) -> None:
    """A refusal is that, and does nothing to a terminal."""
    assert str(error).isprintable(), str(error)
