"""What the small kernel's source gets before it is built: guests/linux/edits.toml.

A kernel's source changes from release to release, and an edit that no longer finds its place must not be lost in
silence: each says how often its anchor is there, once unless told otherwise, and anything else is an error.
"""

from __future__ import annotations

import os
import re

from corral.errors import HostError
from corral.guests import kernel_options, sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def contents() -> list[bytes]:
    """All that a kernel's key must tell apart. Not parsed: each start of a guest asks for it."""
    ours = _path("native")
    return [_read(_path("edits.toml")), *(_read(os.path.join(ours, name)) for name in sorted(os.listdir(ours)))]


def apply(tree: str, version: str) -> None:
    """Copies our files into `tree`, an unpacked source of this version, and edits its own. Raises HostError, naming the
    edit, where an anchor is not found as often as it must be."""
    table = _load(_read(_path("edits.toml")))
    for copy in table.get("copy", []):
        name = os.path.basename(copy["file"])
        with open(os.path.join(tree, copy["to"], name), "wb") as output:
            output.write(_read(_path(copy["file"])))
    for edit in table.get("edit", []):
        if kernel_options.is_in(version, edit.get("before"), edit.get("from")):
            _edit(tree, edit)


def _edit(tree: str, edit: dict[str, Any]) -> None:
    path, wanted = os.path.join(tree, edit["file"]), edit.get("count", 1)
    try:
        text = _read(path).decode()
    except OSError as error:
        raise HostError(f"this kernel source has no {edit['file']}: {error.strerror}") from None
    text, found = re.subn(edit["find"], edit["replace"], text)
    if found != wanted:
        why = " ".join(edit["why"].split())
        raise HostError(
            f"guests/linux/edits.toml does not fit this kernel source: {edit['file']} has {edit['find']!r} "
            f"{found} times, not {wanted} ({why})"
        )
    with open(path, "w", encoding="utf-8") as output:
        output.write(text)


def _path(name: str) -> str:
    return os.path.join(sources.folder("linux"), name)


def _load(table: bytes) -> dict[str, Any]:
    import tomllib

    return tomllib.loads(table.decode())


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
