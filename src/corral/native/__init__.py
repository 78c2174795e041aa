"""The only import of the compiled shim, and the only place where an errno becomes an exception."""

from __future__ import annotations

from corral.errors import HostError, KvmError
from corral.native.handle import Event, Handle

try:
    import _corral_shim
    from _corral_shim import ffi, lib
except ImportError as error:
    raise HostError(
        f"the C shim of Corral is not installed ({error}); install Corral with pip, or run: make venv"
    ) from error

CData = ffi.CData
SHIM = _corral_shim.__file__

__all__ = ["SHIM", "CData", "Event", "Handle", "check", "ffi", "ioctl", "lib"]


def check(name: str, result: int, cure: str = "") -> int:
    """Passes a result of 0 or more on; raises KvmError for -errno. `name` is the call as a person knows it."""
    if result < 0:
        raise KvmError(name, -result, cure)
    return result


def ioctl(fd: Handle, name: str, argument: object = None, cure: str = "") -> int:
    """KVM ioctl by name, with a cdata pointer, an integer or nothing as argument; raises KvmError, ClosedError."""
    if argument is None:
        argument = ffi.NULL
    elif isinstance(argument, int):
        argument = ffi.cast("void *", argument)
    return check(name, fd.call(lib.corral_ioctl, getattr(lib, name), argument), cure)
