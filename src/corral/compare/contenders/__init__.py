"""Who is measured. A contender is a class with a module of its own here, and a line in `ALL`."""

from __future__ import annotations

from corral.compare.contenders.base import Contender, Job, Kit, Launch, Unsuitable
from corral.compare.contenders.bubblewrap import Bubblewrap
from corral.compare.contenders.corral_clone import CorralClone
from corral.compare.contenders.corral_vm import Corral
from corral.compare.contenders.engines import Docker, Podman
from corral.compare.contenders.native import Native
from corral.compare.contenders.qemu import Q35, Microvm
from corral.compare.contenders.runc import Runc
from corral.errors import ConfigError

__all__ = ["ALL", "Contender", "Job", "Kit", "Launch", "Unsuitable", "choose"]

ALL: tuple[type[Contender], ...] = (Native, Runc, Bubblewrap, Podman, Docker, Corral, CorralClone, Microvm, Q35)


def choose(names: list[str]) -> list[type[Contender]]:
    """Those of the names, in their own order; all for none. Raises ConfigError."""
    known = {contender.name: contender for contender in ALL}
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no contender {name!r}; there are {', '.join(known)}")
    return [contender for contender in ALL if not names or contender.name in names]
