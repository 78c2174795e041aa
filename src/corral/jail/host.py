"""What this host has for a jail, for `corral doctor`. Each is tried; in another process what cannot be undone."""

from __future__ import annotations

import os

from corral.native import lib
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Landlock's ABI: what it brings for us (landlock(7)).
_LANDLOCK = {1: "files", 4: "TCP ports", 6: "signals and abstract sockets"}


@record(frozen=True)
class HostJail:
    """`landlock` is its ABI, 0: none. `namespaces`: of the network, mounts and so on, for a process of this user;
    `user_namespaces`: for one that first becomes another user, as servers of shared folders do."""

    seccomp: bool
    landlock: int
    namespaces: bool
    user_namespaces: bool

    @property
    def text(self) -> str:
        has = ["no new privileges, no capabilities"]
        has += ["filters of system calls"] if self.seccomp else []
        has += [f"Landlock (ABI {self.landlock}: {', '.join(self._landlock)})"] if self.landlock else []
        has += ["namespaces"] if self.namespaces else []
        return "; ".join(has)

    @property
    def missing(self) -> list[str]:
        """Sentences that name the cure."""
        found = []
        if not self.seccomp:
            found.append("a jail needs a host's kernel with CONFIG_SECCOMP_FILTER; else corral boot takes --jail off")
        if not self.landlock:
            found.append("Landlock, a layer of the jail: Linux 5.13 or newer, with lsm=landlock,... as its parameter")
        elif lacks := [what for abi, what in _LANDLOCK.items() if abi > self.landlock]:
            found.append(f"Landlock here knows nothing of {' and '.join(lacks)}: a newer kernel does")
        if not self.user_namespaces:
            found.append(
                "user namespaces, for the jail of a shared folder's server: see "
                "/proc/sys/user/max_user_namespaces and /proc/sys/kernel/unprivileged_userns_clone"
            )
        return found

    @property
    def _landlock(self) -> list[str]:
        return [what for abi, what in _LANDLOCK.items() if abi <= self.landlock]


def look() -> HostJail:
    return HostJail(
        seccomp=lib.corral_jail_has_filters() == 0,
        landlock=max(0, lib.corral_jail_landlock_abi()),
        namespaces=_works(lambda: lib.corral_jail_unshare() == 0),
        user_namespaces=_works(lambda: lib.corral_jail_unshare_user() == 0),
    )


def _works(attempt: Callable[[], bool]) -> bool:
    child = os.fork()
    if not child:
        os._exit(0 if attempt() else 1)
    return os.waitpid(child, 0)[1] == 0
