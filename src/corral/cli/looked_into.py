"""What `corral dump` and `corral drgn` are about: a guest that has a name, or the file of a snapshot."""

from __future__ import annotations

import os

from corral.snapshot import file


def is_snapshot(source: str) -> bool:
    """A name of a guest has no slash; where both could be meant, the file must say so: ./web."""
    return os.path.lexists(source) and (file.is_one(source) or "/" in source)
