"""What a kernel must be built with to run natively by injection."""

from __future__ import annotations

import re

from corral.injection.unfit import Check, UnfitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.boot.kernel_config import KernelConfig

_RELEASE = re.compile(r"[0-9][0-9A-Za-z.+~_-]*")
# Those that were tried. In others the same places may be there and mean something else.
SERIES = ("6.1", "6.12")
# Any option of a line will do: some were renamed.
_OPTIONS = (
    ("X86_64",),
    ("SMP",),
    ("XEN_PV",),  # its ways through the entry code, and PARAVIRT_XXL
    ("KVM_GUEST",),
    ("KALLSYMS_ALL",),
    ("MITIGATION_PAGE_TABLE_ISOLATION", "PAGE_TABLE_ISOLATION"),  # page directories in pairs; the hole in its text
)


def check_release(release: str) -> None:
    """Raises UnfitError for one that was not tried, or that names no package: it is the kernel's word, hostile."""
    if not _RELEASE.fullmatch(release):
        raise UnfitError(Check.RELEASE, "it does not tell which Linux it is" if not release else "its release is none")
    series = ".".join(release.split("-")[0].split("+")[0].split(".")[:2])
    if series not in SERIES:
        raise UnfitError(Check.RELEASE, f"it is Linux {series}, and those that were tried are {' and '.join(SERIES)}")


def check_configuration(config: KernelConfig | None) -> None:
    """Raises UnfitError with the first that is not as it must be. Without a configuration its symbols will tell."""
    for options in _OPTIONS:
        if config is not None and config.any(*options) != "y":
            raise UnfitError(Check.CONFIGURATION, f"it is built without CONFIG_{options[0]}")
