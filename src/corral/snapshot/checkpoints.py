"""Moments of a machine, kept in memory, and the way back to each in place (docs/rewind.md).

One copy of RAM, the mirror, is as RAM was at one checkpoint; each other checkpoint has the pages that differ from the
next one on the way to it, and its way is turned round when the machine goes there. A checkpoint that nothing refers to
any more takes its pages with it.
"""

from __future__ import annotations

import mmap

from corral.errors import ConfigError, HostError
from corral.kvm.dirty_log import DirtyLog
from corral.native import check, ffi, lib
from corral.snapshot import machine_state
from corral.snapshot.ram import Chain
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.memory import GuestMemory
    from corral.native import CData
    from corral.snapshot.machine_state import MachineState
    from corral.snapshot.parts import Parts

PAGE = 4096
_FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE


@record(frozen=True)
class Link:
    """What makes a checkpoint of the one that is `towards` the mirror: `count` pages, and what they have."""

    towards: Checkpoint
    count: int
    pages: CData
    contents: CData


class Checkpoint:
    """A moment of a machine, for its reset(). `pages` that differ from the next are kept for it."""

    def __init__(self, owner: Checkpoints, state: MachineState) -> None:
        self._owner, self.state = owner, state
        self.link: Link | None = None  # the mirror is as it

    @property
    def pages(self) -> int:
        return self.link.count if self.link else 0

    def belongs_to(self, owner: Checkpoints) -> bool:
        return self._owner is owner

    def __repr__(self) -> str:
        return f"<Checkpoint, {self.pages} pages>"


class Checkpoints:
    """Of one machine, from its first on. Raises ConfigError for a machine that cannot go back, HostError, KvmError."""

    def __init__(self, machine: Parts) -> None:
        refuse(machine)
        self._machine, memory = machine, machine.memory
        self._log = DirtyLog(machine.system, machine.vm, memory)
        self._mirror = Mirror(memory, self._log.words)
        self._at: Checkpoint | None = None  # what the mirror is as
        self.copied = 0  # pages, by the last reset

    def close(self) -> None:
        self._mirror.close()

    def take(self) -> Checkpoint:
        """Of the machine, which is paused. Raises ConfigError, GuestError, HostError, KvmError."""
        with machine_state.Still(self._machine) as state:
            taken = Checkpoint(self, state)
            if self._at is None:
                self._log.read()
                self._mirror.fill()
            else:
                self._gather()
                count, pages, contents = self._mirror.advance(self._log.bits)
                self._at.link = Link(taken, count, pages, contents)
                self._log.read()
            self._log.clear()
            self._mirror.forget_touched()
            self._at = taken
        return taken

    def reset(self, to: Checkpoint | None = None) -> None:
        """Brings the machine back, which is paused; None: to the checkpoint that it was at last. Raises what take()
        does."""
        to = to or self._at
        if to is None or not to.belongs_to(self):
            raise ConfigError("this machine has no such checkpoint; take one: vm.checkpoint()")
        with machine_state.GoingBack(self._machine, to.state) as going:
            self._gather()
            self._turn(to)
            self.copied, tables = self._mirror.reset(self._log.bits)
            if tables:
                self._log.begin_anew()
            else:
                self._log.clear()
            self._mirror.forget_touched()
            going.done()

    def _gather(self) -> None:
        """All pages that may differ from the mirror."""
        self._log.read()
        self._mirror.add_touched(self._log.bits)

    def _turn(self, to: Checkpoint) -> None:
        """Makes the mirror as `to`, and adds what that changes to the log's bits."""
        way: list[Checkpoint] = [to]
        while link := way[-1].link:
            way.append(link.towards)
        for one, towards in zip(way[-2::-1], way[:0:-1], strict=True):
            link = one.link
            assert link
            assert link.towards is towards
            self._mirror.exchange(link.count, link.pages, link.contents, self._log.bits)
            one.link, towards.link = None, Link(one, link.count, link.pages, link.contents)
        self._at = to


class Mirror:
    """The copy of RAM. Raises HostError, KvmError."""

    def __init__(self, memory: GuestMemory, words: int) -> None:
        self._memory, self._words = memory, words
        try:
            self._map = mmap.mmap(-1, memory.size, _FLAGS, mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError as error:
            raise HostError(f"no memory for a checkpoint of {memory.size >> 20} MiB: {error.strerror}") from None
        self._pointer = ffi.from_buffer(self._map)
        if memory.mapped is not None:
            assert isinstance(memory.mapped, Chain)
            layers = memory.mapped.native
            check("mmap", lib.corral_ram_map(ffi.cast("void *", self._pointer), memory.size, layers, len(layers)))
        self._idle = ffi.new("uint8_t[]", memory.size // PAGE)
        self._touched = ffi.new("uint64_t[]", words)
        self.native = ffi.new(
            "struct corral_mirror *",
            {
                "ram": ffi.cast("uint8_t *", memory.host_address),
                "copy": ffi.cast("uint8_t *", self._pointer),
                "pages": memory.size // PAGE,
                "idle": self._idle,
            },
        )
        self._end, self._tables = 1 << 46, ffi.new("bool *")
        memory.native.touched = self._touched

    def close(self) -> None:
        """After the vCPUs and devices are."""
        self._memory.native.touched = ffi.NULL
        ffi.release(self._pointer)
        self._map.close()

    def fill(self) -> None:
        check("mirror", lib.corral_mirror_fill(self.native))

    def add_touched(self, bits: CData) -> None:
        lib.corral_mirror_add(bits, self._touched, self._words)

    def forget_touched(self) -> None:
        ffi.memmove(self._touched, bytes(8 * self._words), 8 * self._words)

    def advance(self, bits: CData) -> tuple[int, CData, CData]:
        """Brings the mirror up to RAM; gives the pages and what it had there."""
        count = int(lib.corral_mirror_changed(self.native, bits))
        pages, contents = ffi.new("uint32_t[]", count or 1), ffi.new("uint8_t[]", count * PAGE or 1)
        lib.corral_mirror_advance(self.native, bits, pages, contents)
        return count, pages, contents

    def exchange(self, count: int, pages: CData, contents: CData, bits: CData) -> None:
        lib.corral_mirror_exchange(self.native, count, pages, contents, bits)

    def reset(self, bits: CData) -> tuple[int, bool]:
        """Returns how many pages were copied, and whether they had what may be tables of pages; in `bits` stay those
        that need not be in the log any more."""
        copied = lib.corral_mirror_reset(self.native, bits, self._end, self._tables)
        return int(copied), bool(self._tables[0])


def refuse(machine: Parts) -> None:
    """Raises ConfigError, with the reason, for a machine that cannot go back in place."""
    machine_state.refuse(machine)
    for config in machine.config.disks:
        if not config.read_only:
            raise ConfigError(
                f"what the guest writes to {config.path!r} cannot be taken back; add ,ro to it, or leave it out"
            )
