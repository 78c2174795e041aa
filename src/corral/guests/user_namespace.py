"""What a user who is not root needs of the host to make a root file system whose files have many owners."""

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


def require(etc: str = "/etc", switches: str = "/proc/sys") -> None:
    """Raises HostError with the command that gives what is missing. Root needs nothing."""
    if os.geteuid() == 0:
        return
    import pwd

    uid = os.getuid()
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
