"""The inputs that went new ways, in a folder: a file each, called by its content, which several jobs may share."""

from __future__ import annotations

import os

from corral.errors import ConfigError, HostError
from corral.fuzz.findings import write
from corral.startup.digest import sha256

MOST = 100_000  # inputs, of any size that a target takes
FIRST = b"corral\n"  # where there is none


class Corpus:
    """`room`: longer files are cut off there. Raises ConfigError for a folder that cannot be read."""

    def __init__(self, folder: str, room: int) -> None:
        self._folder, self._room = folder, room
        self.inputs: list[bytes] = []
        self._names: set[str] = set()

    def news(self) -> list[bytes]:
        """Inputs whose files are new in the folder since the last call, in the order of their names."""
        try:
            with os.scandir(self._folder) as entries:
                names = sorted(one.name for one in entries if not one.name.startswith(".") and one.is_file())
            found = []
            for name in names:
                if name not in self._names and len(self._names) < MOST:
                    self._names.add(name)
                    with open(os.path.join(self._folder, name), "rb", opener=_opener) as file:
                        found.append(file.read(self._room))
        except OSError as error:
            raise ConfigError(f"cannot read the corpus {self._folder!r}: {error.strerror}; name a folder") from None
        return found

    def first(self) -> list[bytes]:
        """What a session begins with."""
        return self.news() or [FIRST]

    def add(self, data: bytes) -> None:
        """Keeps an input. Raises HostError where it cannot be written."""
        self.inputs.append(data)
        name = sha256(data).hex()[:16]
        if name in self._names or len(self._names) >= MOST:
            return
        self._names.add(name)
        try:
            write(os.path.join(self._folder, name), data)
        except OSError as error:
            raise HostError(f"cannot write to {self._folder!r}: {error.strerror}; make room there") from None


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
