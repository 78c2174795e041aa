"""What a kernel is looked at for before anything is put over it, and the error of one that does not fit."""

from __future__ import annotations

from corral.errors import HostError
from corral.startup.enums import Enum


class Check(Enum):
    """In the order in which they are made. The values are for people and programs: `corral kernel check`."""

    RELEASE = "release"  # a series of Linux that was tried
    CONFIGURATION = "configuration"  # built with what this needs
    SYMBOLS = "symbols"  # those that the new code is linked with, in the kernel's own table
    FILE = "file"  # it has what its symbols lead to
    CODE = "code"  # each place that is replaced is as expected
    REWRITTEN = "rewritten code"  # the kernel rewrites none of them itself
    EXCEPTIONS = "exceptions"  # room for the new code's faults in the kernel's table of them
    HEADERS = "headers"  # the packages that its modules are built against can be had here
    TOOLS = "tools"  # so can a compiler and a linker
    BUILD = "build"  # the new code compiles and links for it


class UnfitError(HostError):
    """A kernel that cannot run natively here; the text says what it lacks, as in "it has no symbol pv_ops"."""

    def __init__(self, check: Check, text: str) -> None:
        self.check = check
        super().__init__(text)


def why(error: HostError) -> str:
    """With the name of the check, where it is one that failed."""
    return f"{error} (check: {error.check.value})" if isinstance(error, UnfitError) else str(error)
