"""The headers of a distribution's kernel, which its modules are built against: one package of its build, one that
several builds share."""

from __future__ import annotations

import os

from corral.errors import HostError
from corral.guests import debian, releases
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.guests.debian import Options

PREFIX = "linux-headers-"
INSTALLED = "/usr/src"


@record(frozen=True)
class Headers:
    """`build` has what that kernel's configuration made, `common` the source's own."""

    build: str
    common: str

    @property
    def includes(self) -> list[str]:
        """Folders, in the order in which the kernel's own build looks there."""
        return [
            f"{folder}/{path}"
            for path in ("arch/x86/include", "include", "arch/x86/include/uapi", "include/uapi")
            for folder, path in (
                (self.common, path),
                (self.build, path.replace("include", "include/generated") if path != "include" else path),
            )
        ]


def get(release: str, into: str, options: Options = ()) -> Headers:
    """Those of the kernel `release`: the installed ones, or unpacked below the folder `into`; `options` are apt's, for
    sources that are not the host's. Raises HostError."""
    found = _headers_below(INSTALLED, release)
    if found is None:
        package = PREFIX + release
        debian.unpack(package, into, options)
        for other in debian.dependencies(package, options):
            if other.startswith(PREFIX):
                debian.unpack(other, into, options)
        found = _headers_below(os.path.join(into, "usr", "src"), release)
    if found is None:
        raise HostError(f"the packages of {PREFIX}{release} have their files where no known release has them")
    return found


def require(release: str) -> None:
    """Raises HostError where get() would find neither installed ones nor a package. Those of another release of Debian
    are believed to be there: to look takes a fetch of its lists."""
    if _headers_below(INSTALLED, release) is None and releases.of_kernel(release) in (None, releases.of_host("debian")):
        debian.candidate(PREFIX + release)


def _headers_below(parent: str, release: str) -> Headers | None:
    """None where they are not whole."""
    build = os.path.join(parent, PREFIX + release)
    if not os.path.isfile(os.path.join(build, "include", "generated", "autoconf.h")):
        return None
    names = [name for name in sorted(os.listdir(parent)) if name.startswith(PREFIX) and PREFIX + release != name]
    # Debian's of 6.1.0-57-cloud-amd64 and 6.1.0-57-common, Ubuntu's of 6.8.0-60-generic and 6.8.0-60.
    near = [name for name in names if release.startswith(name.removeprefix(PREFIX).removesuffix("-common"))]
    for name in sorted(near, key=len, reverse=True):
        common = os.path.join(parent, name)
        if os.path.isfile(os.path.join(common, "arch", "x86", "include", "asm", "paravirt.h")):
            return Headers(build, common)
    return None
