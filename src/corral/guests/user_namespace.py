"""The user namespace in which a root file system is made, whose files have many owners: what it takes of the host.
Root can do without; the programs of a distribution's packages are better off in one."""

from __future__ import annotations

import os

from corral.errors import HostError

_SWITCHES = {
    "kernel/unprivileged_userns_clone": ("0", "sudo sysctl kernel.unprivileged_userns_clone=1"),
    "user/max_user_namespaces": ("0", "sudo sysctl user.max_user_namespaces=10000"),
    "kernel/apparmor_restrict_unprivileged_userns": (
        "1",
        "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
}
PACKAGE = "uidmap"  # newuidmap and newgidmap


def packages() -> list[str]:
    """Debian packages that it takes: none for root."""
    return [] if os.geteuid() == 0 else [PACKAGE]


def mmdebstrap_mode(etc: str = "/etc", switches: str = "/proc/sys") -> str:
    """What `mmdebstrap --mode` is told: root takes a namespace too where it can have one, else what it has without."""
    if os.geteuid() != 0:
        return "unshare"
    import shutil

    try:
        _require(0, etc, switches)
    except HostError:
        return "auto"
    return "unshare" if shutil.which("newuidmap") and shutil.which("newgidmap") else "auto"


def require(etc: str = "/etc", switches: str = "/proc/sys") -> None:
    """Raises HostError with the command that gives what is missing. Root needs nothing."""
    if os.geteuid() != 0:
        _require(os.getuid(), etc, switches)


def _require(uid: int, etc: str, switches: str) -> None:
    import pwd

    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        raise HostError(
            f"the user {uid} has no name on this host, and so no ids for a guest's files; be another"
        ) from None
    for name in ("subuid", "subgid"):
        if not _has_ids(os.path.join(etc, name), user, uid):
            raise HostError(
                f"{user} has no ids in {etc}/{name} for the owners of a guest's files; give some: "
                f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
            )
    for name, (forbidden, cure) in _SWITCHES.items():
        if _read(os.path.join(switches, name)).strip() == forbidden:
            raise HostError(f"this host lets no user make a user namespace, which a root file system takes; {cure}")


def _has_ids(path: str, user: str, uid: int) -> bool:
    lines = [line.split(":") for line in _read(path).splitlines()]
    return any(line[0] in (user, str(uid)) and line[-1].isdigit() and int(line[-1]) > 0 for line in lines)


def _read(path: str) -> str:
    """ "" for a file that is not there."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
