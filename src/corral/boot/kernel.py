"""What every kind of kernel has in common: it is described, and loaded into guest memory for an entry."""

from __future__ import annotations

from abc import ABC, abstractmethod

from corral.files.file import Flaw
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from corral.arch.x86_64.registers import Entry
    from corral.config import Module
    from corral.files.file import ImageFile
    from corral.memory import GuestMemory


@record(frozen=True)
class KernelFacts:
    """What is known of a kernel without running it; None: not known without loading it, or not there."""

    kind: str
    file_size: int
    version: str | None = None  # "6.1.0-56-cloud-amd64 (builder) #1 SMP ..."
    compression: str | None = None
    loaded_size: int | None = None  # bytes of RAM, those that the file leaves zero included
    entry: int | None = None
    pvh_entry: int | None = None
    cmdline_limit: int | None = None  # bytes, without the terminating zero

    @property
    def release(self) -> str | None:
        """The version's first word, as `uname -r` has it."""
        words = (self.version or "").split()
        return words[0] if words else None

    def __str__(self) -> str:
        parts = [self.kind]
        if self.release:
            parts.append(f"Linux {self.release}")
        if self.compression:
            parts.append(self.compression)
        parts.append(f"{self.file_size / (1 << 20):.1f} MiB")
        return ", ".join(parts)


class Kernel(ABC):
    """A kernel whose file is open and whose headers are valid. Close it, or use it as a context manager.

    `modules` are set when it is opened; Linux takes none but its initrd. So is `injection`, the file of what replaces
    some of it in memory (corral.injection). `expects_bios`: it comes from a time when a
    PC's BIOS ran before it, and may count on what that leaves, as a timer that ticks. `is_linux`: as far as that can be
    told without a look into it. `code`: what of the file is in guest memory, as (guest physical, size, linear), where
    that is known.
    """

    kind = ""
    takes_modules = False
    expects_bios = False
    is_linux = False
    code: tuple[tuple[int, int, int], ...] = ()
    modules: tuple[Module, ...] = ()
    injection: str | None = None

    def __init__(self, file: ImageFile) -> None:
        self.file = file

    @property
    def path(self) -> str:
        return self.file.path

    def load(
        self,
        memory: GuestMemory,
        cmdline: bytes = b"",
        initrd: str | os.PathLike[str] | None = None,
        rsdp: int = 0,
    ) -> Entry:
        """Place the kernel, its command line, its initrd and what the protocol wants beside them in `memory`.

        `rsdp` is where ACPI's root pointer is, 0 where there is none.

        The memory is as the host gave it, all zeros: what a kernel has in RAM but not in its file is not
        touched. Raises BootError, naming the file at fault; HostError when a library for its compression is
        missing.
        """
        self.file.require_unchanged()
        if self.modules and not self.takes_modules:
            raise self.file.error(f"takes no modules, being entered as {self.kind}; leave --module out")
        try:
            entry = self._load(memory, cmdline, initrd, rsdp)
        except Flaw as flaw:
            raise self.file.error(str(flaw)) from None
        if self.injection is not None:
            from corral.boot import pieces

            pieces.inject(self.injection, memory)
        return entry

    @abstractmethod
    def describe(self) -> KernelFacts:
        """The facts about this kernel; reads the file where the headers do not tell. Raises BootError."""

    @abstractmethod
    def _load(self, memory: GuestMemory, cmdline: bytes, initrd: str | os.PathLike[str] | None, rsdp: int) -> Entry:
        """load(), with a Flaw for what is wrong with the kernel itself."""

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
