"""What is looked into: RAM and vCPUs' registers, of a machine here, of a snapshot, or of another process."""

from __future__ import annotations

from corral.memory import GuestMemory
from corral.native import ffi
from corral.snapshot.resumed import Resumed
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from corral.kvm.vcpu import Vcpu
    from corral.native import CData

    class Memory(Protocol):
        """A guest's RAM, to be read. read() raises GuestMemoryError for what is not all RAM."""

        @property
        def regions(self) -> list[tuple[int, int]]: ...
        def read(self, gpa: int, length: int, /) -> bytes: ...
        def offset(self, gpa: int, length: int, /) -> int: ...

    class HasVcpus(Protocol):
        """A machine that is paused (machine.py)."""

        vcpus: list[Vcpu]


Values = dict[str, int]  # of registers, by their names
_GENERAL = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp"),
    *(f"r{number}" for number in range(8, 16)),
    *("rip", "rflags"),
)
_CONTROL = ("cr0", "cr2", "cr3", "cr4", "cr8", "efer")
_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss")
_TABLES = ("gdt", "idt")
NAMES = (*_GENERAL, *_CONTROL, *_SEGMENTS, *(f"{name}_base" for name in (*_SEGMENTS, *_TABLES)))
KERNEL_CS, KERNEL_SS = 0x10, 0x18  # of Linux on x86-64
KERNEL_HALF = 1 << 63


@record(frozen=True)
class Subject:
    """`kernel` is the file that the guest was booted from."""

    memory: Memory
    vcpus: tuple[Values, ...]
    kernel: str


@record(frozen=True)
class Tables:
    """What a page walk asks of a struct kvm_sregs (arch/x86_64/page_walk.py)."""

    cr0: int
    cr3: int
    cr4: int
    efer: int


def tables(vcpu: Values) -> Tables:
    """Those of a vCPU."""
    return Tables(vcpu["cr0"], vcpu["cr3"], vcpu["cr4"], vcpu["efer"])


def values(regs: CData, sregs: CData) -> Values:
    """Of a struct kvm_regs and a struct kvm_sregs. Kernel code that runs natively on a pagetable KVM has the selectors
    of CPL 3 there; here it has its own."""
    found = {name: int(getattr(regs, name)) for name in _GENERAL}
    found |= {name: int(getattr(sregs, name)) for name in _CONTROL}
    found |= {name: int(getattr(sregs, name).selector) for name in _SEGMENTS}
    found |= {f"{name}_base": int(getattr(sregs, name).base) for name in (*_SEGMENTS, *_TABLES)}
    if found["rip"] >= KERNEL_HALF and found["cs"] & 3:
        found |= {"cs": KERNEL_CS, "ss": KERNEL_SS}
    return found


def of_vcpus(machine: HasVcpus) -> tuple[Values, ...]:
    """Of a machine that is paused or over. Raises KvmError, ClosedError."""
    return tuple(values(vcpu.get_regs(), vcpu.get_sregs()) for vcpu in machine.vcpus)


class Saved:
    """A context manager: the guest of the snapshot at `path`, which has not to be run for it. Raises BootError."""

    def __init__(self, path: str) -> None:
        self._resumed = Resumed(path)
        guest = self._resumed.content.guest
        try:
            self.memory = GuestMemory(guest.memory)
            try:
                self._resumed.load(self.memory, b"", None, 0)
            except BaseException:
                self.memory.close()
                raise
        except BaseException:
            self._resumed.close()
            raise
        self.kernel = guest.kernel
        self.vcpus = tuple(_state_values(one.regs, one.sregs) for one in self._resumed.content.state.vcpus)

    @property
    def subject(self) -> Subject:
        return Subject(self.memory, self.vcpus, self.kernel)

    def extents(self) -> list[tuple[int, int]]:
        """(offset, end) of RAM that may hold something else than zeros, in order; offsets are those of the RAM as one
        piece."""
        return self._resumed.extents()

    def __enter__(self) -> Saved:
        return self

    def __exit__(self, *exception: object) -> None:
        self.memory.close()
        self._resumed.close()


def _state_values(regs: bytes, sregs: bytes) -> Values:
    general, special = ffi.new("struct kvm_regs *"), ffi.new("struct kvm_sregs *")
    for place, content in ((ffi.buffer(general), regs), (ffi.buffer(special), sregs)):
        if len(content) == len(place):  # else zeros: of another version of the structure
            place[:] = content
    return values(general, special)
