"""What a person names in a store: a URL that fsspec knows, or a path of this host."""

from __future__ import annotations

import os
import re

from corral.errors import ConfigError
from corral.startup.record import record

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL)
_LOCAL = ("", "file", "local")
UNFINISHED = ".unfinished-"


@record(frozen=True)
class Address:
    """A store, and the name of a snapshot there, or "". `scheme` is "" for a folder of this host, which `root` is; else
    `root` is the URL without its scheme."""

    scheme: str
    root: str
    name: str

    def __str__(self) -> str:
        where = f"{self.scheme}://{self.root}" if self.scheme else self.root
        return f"{where.rstrip('/')}/{self.name}" if self.name else where


def is_url(text: str) -> bool:
    return _SCHEME.fullmatch(text) is not None


def of_snapshot(text: str) -> Address:
    """The URL of a snapshot: the last part is its name. Raises ConfigError."""
    root, slash, name = text.rpartition("/")
    if not slash or not root or root.endswith(":/") or not _NAME.fullmatch(name) or UNFINISHED in name:
        raise ConfigError(
            f"{text!r} names no snapshot in a store; write the store, / and a name of letters, digits, dots, dashes, "
            "like s3://BUCKET/FOLDER/NAME"
        )
    return _address(root, name)


def of_store(text: str) -> Address:
    """Raises ConfigError."""
    return _address(text.rstrip("/") or text, "")


def _address(root: str, name: str) -> Address:
    if "\0" in root or not root:
        raise ConfigError(f"{root!r} is no store; write a folder, or a URL like s3://BUCKET/FOLDER")
    found = _SCHEME.fullmatch(root)
    scheme, rest = found.groups() if found else ("", root)
    if scheme not in _LOCAL:
        if not rest:
            raise ConfigError(f"{root!r} names no folder; write one, like {scheme}://BUCKET/FOLDER")
        return Address(scheme, rest, name)
    if found and not rest.startswith("/"):
        raise ConfigError(f"{root!r}: {scheme}:// wants a path from /, like {scheme}:///srv/store")
    return Address("", os.path.abspath(rest), name)
