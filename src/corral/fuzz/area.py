"""The area that a target shares with the fuzzer (guests/fuzz/corral_fuzz.h). All that the target says of it is checked
once, at the checkpoint; its pages are found then, by its page tables, and stay."""

from __future__ import annotations

import struct

from corral.errors import GuestError
from corral.memory import PAGE, GuestMemoryError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.memory import GuestMemory
    from corral.script.memory_access import Space

MAGIC = 0x7A75664C
LARGEST = 1 << 20  # bytes of input, and of the map
FRAMES = 16
_HEAD = struct.Struct("<4I")  # magic, room, map_size, edges
_LENGTH_AT = 16
_TOLD = struct.Struct(f"<I3Q2I{FRAMES}Q")  # reason, address, pc, base, frames, reserved, stack
_TOLD_AT = 20
_AS = "corral_fuzz.h says how (corral fuzz --include)"


@record(frozen=True)
class Layout:
    """Where the area is: the gpa of its first page, and (gpa, length) of each piece of the input and of the part of the
    map that is in use. `room` in bytes."""

    HEX = ("head",)

    head: int
    room: int
    input: tuple[tuple[int, int], ...]
    map: tuple[tuple[int, int], ...]


@record(frozen=True)
class ToldCrash:
    """What a target says of its crash; nothing of it is believed. `pc` and `stack` as the program was linked."""

    HEX = ("address", "pc")

    reason: int
    address: int
    pc: int
    stack: tuple[int, ...]


def find(space: Space, address: int) -> Layout:
    """Of the area at this linear address. Raises GuestError for one that the convention does not allow."""
    if address % PAGE:
        raise GuestError(f"the target's area is at {address:#x}, which is no multiple of 4096; {_AS}")
    try:
        ((head, _),) = space.pieces(address, PAGE)
        magic, room, map_size, edges = _HEAD.unpack(space.read(address, _HEAD.size))
        if magic != MAGIC:
            raise GuestError(f"there is no area at {address:#x}, where the target says that it is; {_AS}")
        for name, size in (("room for input", room), ("map", map_size)):
            if size % PAGE or size > LARGEST or (name != "map" and not size):
                raise GuestError(f"the target's {name} has {size} bytes; a multiple of 4096, at most 1 MiB; {_AS}")
        used = min(edges, map_size)
        inputs, edges_at = address + PAGE, address + PAGE + room
        return Layout(head, room, _joined(space.pieces(inputs, room)), _joined(space.pieces(edges_at, used)))
    except GuestMemoryError as error:
        raise GuestError(f"the target's area is not all in memory: {error}; lock it there") from None


def _joined(pieces: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """With those together that follow each other."""
    joined: list[tuple[int, int]] = []
    for gpa, length in pieces:
        if joined and sum(joined[-1]) == gpa:
            joined[-1] = (joined[-1][0], joined[-1][1] + length)
        else:
            joined.append((gpa, length))
    return tuple(joined)


class Area:
    """The area in the memory of one machine. To be closed before that is."""

    def __init__(self, layout: Layout, memory: GuestMemory) -> None:
        self.room = self._filled = layout.room
        self._head = memory.view(layout.head, PAGE)
        self._input = [memory.view(gpa, length) for gpa, length in layout.input]
        self._map = [memory.view(gpa, length) for gpa, length in layout.map]
        self._zeros = [bytes(len(view)) for view in self._map]

    def put(self, data: bytes) -> None:
        """An input, as far as there is room, zeros where the one before was longer, and an empty map. A reset of the
        machine takes back what the guest writes, and not this."""
        length, at = min(len(data), self.room), 0
        self._head[_LENGTH_AT : _LENGTH_AT + 4] = length.to_bytes(4, "little")
        written = data[:length] + bytes(max(0, self._filled - length))
        self._filled = length
        for view in self._input:
            part = written[at : at + len(view)]
            view[: len(part)] = part
            at += len(view)
            if at >= len(written):
                break
        for view, zeros in zip(self._map, self._zeros, strict=True):
            view[:] = zeros

    def coverage(self) -> bytes:
        """A byte for each edge: how often it was taken since put(), modulo 256."""
        return self._map[0].tobytes() if len(self._map) == 1 else b"".join(self._map)

    def told(self) -> ToldCrash:
        reason, address, pc, base, frames, _, *stack = _TOLD.unpack_from(self._head, _TOLD_AT)
        linked = [(at - base) & (1 << 64) - 1 for at in (pc, *stack[: min(frames, FRAMES)])]
        return ToldCrash(reason, address, linked[0], tuple(linked[1:]))

    def close(self) -> None:
        for view in (self._head, *self._input, *self._map):
            view.release()
