"""A drgn Program over a guest's memory (https://drgn.readthedocs.io): its objects are those of the guest's kernel."""

from __future__ import annotations

import re

from corral.errors import HostError
from corral.guests import kernel_debuginfo
from corral.introspect import vmcoreinfo
from corral.introspect.kernel import KERNEL_MAP
from corral.memory import GuestMemoryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corral.introspect.kernel import GuestKernel

    Read = Callable[[int, int, int, bool], bytes]

NEEDED = "pip install 'corral[introspect]'"


def program(kernel: GuestKernel, vmlinux: str | None = None, live: bool = True) -> Any:
    """`vmlinux`: a file with the kernel's debug information; else what the cache has of it (corral kernel debuginfo),
    and where there is none, objects have no types and symbols come from kallsyms. `live`: the guest may run meanwhile.
    Raises HostError where drgn is not installed or finds no fault with the file."""
    try:
        import drgn
    except ImportError:
        raise HostError(f"drgn is not installed; get it: {NEEDED}") from None

    note = vmcoreinfo.text(kernel)
    found = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    found.set_linux_kernel_custom(note, live)
    memory = kernel.memory
    for gpa, length in memory.regions:
        found.add_memory_segment(gpa, length, _reader(drgn, memory.read), physical=True)
        found.add_memory_segment(
            kernel.page_offset + gpa, length, _reader(drgn, memory.read, kernel.page_offset), physical=False
        )
    start, end = kernel.symbol("_text"), kernel.symbol("_end")
    found.add_memory_segment(
        start, end - start, _reader(drgn, memory.read, KERNEL_MAP - kernel.phys_base), physical=False
    )
    _load(drgn, found, kernel, note, vmlinux)
    return found


def _reader(drgn: Any, read: Callable[[int, int], bytes], base: int = 0) -> Read:
    """Of addresses that are guest physical ones behind `base`."""

    def from_memory(address: int, length: int, offset: int, physical: bool) -> bytes:
        try:
            return read(address - base, length)
        except GuestMemoryError as error:
            raise drgn.FaultError(str(error), address) from None

    return from_memory


def _load(drgn: Any, found: Any, kernel: GuestKernel, note: bytes, vmlinux: str | None) -> None:
    """The debug information, by the build ID; one that is named is taken without."""
    if vmlinux is None:
        identity = re.search(rb"^BUILD-ID=((?:[0-9a-f]{2}){1,64})$", note, re.MULTILINE)
        build_id = bytes.fromhex(identity[1].decode()) if identity else vmcoreinfo.build_id(kernel)
        info = kernel_debuginfo.find(build_id) if build_id else None
        if info is None:
            return
        vmlinux = info.vmlinux
    try:
        found.load_debug_info([vmlinux])
        main = found.main_module()
        if main.wants_debug_file():
            main.try_file(vmlinux, force=True)
    except (drgn.MissingDebugInfoError, LookupError, OSError, ValueError) as error:
        raise HostError(f"drgn cannot use {vmlinux!r}: {str(error).splitlines()[0]}") from None
