"""Folders for what runs: this user's alone, and gone with the host's end."""

from __future__ import annotations

import os
import stat

from corral.errors import HostError


def folder(name: str) -> str:
    """The path of `name` in XDG_RUNTIME_DIR, in /run/user/UID, or, with UID behind it, in /tmp. It is made when it is
    not there. Raises HostError for one that others may enter."""
    uid = os.getuid()
    given = os.environ.get("XDG_RUNTIME_DIR")
    user = f"/run/user/{uid}"
    above = given or (user if os.path.isdir(user) else None)
    path = os.path.join(above, name) if above else f"/tmp/{name}-{uid}"
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise HostError(f"cannot make {path!r}: {error.strerror}; set XDG_RUNTIME_DIR to a folder of yours") from error
    about = os.lstat(path)
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != uid or stat.S_IMODE(about.st_mode) & 0o077:
        raise HostError(f"{path!r} is not a folder that you alone may enter; remove it, or set XDG_RUNTIME_DIR")
    return path
