"""A distribution's own kernel: the packages that make it up in one folder, and where in it each release has what.

Debian 12 has the image in /boot and the modules in /lib, Debian 13 has the modules in /usr/lib. From 14 on the kernel's
package is empty: image, configuration and modules are in packages that it depends on, all under /usr/lib/modules.
Ubuntu has modules and configuration in a package beside the image's.
"""

from __future__ import annotations

import os

from corral.errors import HostError
from corral.guests import cache, debian
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.guests.debian import Options

PREFIX = "linux-image-"
MODULE_FOLDERS = ("usr/lib/modules", "lib/modules")


@record(frozen=True)
class KernelPackage:
    """`release` is what `uname -r` says of it; no other kernel has the same name of a folder."""

    release: str
    folder: str

    @property
    def image(self) -> str:
        return self._require(f"boot/vmlinuz-{self.release}", *self._beside_modules("vmlinuz"))

    @property
    def configuration(self) -> str:
        return self._require(f"boot/config-{self.release}", *self._beside_modules("config"))

    @property
    def symbols(self) -> str | None:
        """Its System.map, None where there is none. Debian's says that the real one is elsewhere."""
        return self._find(f"boot/System.map-{self.release}", *self._beside_modules("System.map"))

    @property
    def modules(self) -> str:
        """The folder of its modules."""
        return self._require(*self._beside_modules())

    def _beside_modules(self, *name: str) -> list[str]:
        return [os.path.join(parent, self.release, *name) for parent in MODULE_FOLDERS]

    def _require(self, *places: str) -> str:
        path = self._find(*places)
        if path is None:
            raise HostError(f"the packages of the kernel {self.release} have no {', nor '.join(places)}")
        return path

    def _find(self, *places: str) -> str | None:
        paths = (os.path.join(self.folder, place) for place in places)
        return next((path for path in paths if os.path.exists(path)), None)


def fetch(package: str, options: Options = ()) -> KernelPackage:
    """The kernel of the package linux-image-RELEASE, with what it depends on of the same release; downloaded at most
    once. `options` are apt's, for sources that are not the host's own. Raises HostError, also for packages that have
    their files where no known release has them."""
    release = package.removeprefix(PREFIX).removeprefix("unsigned-")
    version = debian.candidate(package, options)
    # Kernels of other releases are kept apart: `corral boot` takes the newest of the host's own.
    target = cache.folder("linux-others" if options else "linux", f"{release}_{version.replace(':', '%3a')}")
    with cache.making(target) as unfinished:
        if unfinished:
            debian.unpack(package, unfinished, options)
            for other in debian.dependencies(package, options):
                if other.startswith("linux-") and other.endswith(f"-{release}"):
                    debian.unpack(other, unfinished, options)
            found = KernelPackage(release, unfinished)
            _ = found.image, found.configuration, found.modules  # each raises HostError where it is missing
    return KernelPackage(release, target)


def ready() -> list[KernelPackage]:
    """Those of the host's own sources that are in the cache, oldest first."""
    return [KernelPackage(os.path.basename(path).split("_")[0], path) for path in cache.made("linux")]
