"""The messages of a guest's kernel, as `dmesg` has them: printk's ring buffer (kernel/printk/printk_ringbuffer.h of
Linux 5.10 and later), read without types."""

from __future__ import annotations

import struct

from corral.introspect.kernel import DamagedKernel
from corral.introspect.subject import KERNEL_HALF
from corral.memory import GuestMemoryError
from corral.printable import printable
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.introspect.kernel import GuestKernel

_RING = struct.Struct("<I4xQQQQ")  # struct prb_desc_ring: count_bits, descs, infos, head_id, tail_id
_TEXTS = struct.Struct("<I4xQQQ")  # struct prb_data_ring: size_bits, data, head_lpos, tail_lpos
_DESCRIPTOR = struct.Struct("<QQQ")  # struct prb_desc: state_var, text_blk_lpos
_INFO = struct.Struct("<QQHBBI64x")  # struct printk_info: seq, ts_nsec, text_len, facility, flags and level, caller
_TEXTS_AT = (_RING.size, _RING.size + 8)  # in struct printk_ringbuffer; the second since last_finalized_seq is there
_ID = (1 << 62) - 1  # the state is in the two bits above
_COMMITTED, _FINALIZED = 1, 2
_MOST_BITS, _MOST_TEXT_BITS = 18, 26
_LEVEL = 5  # bits before it are flags


@record(frozen=True)
class Message:
    """`time` in seconds since the kernel began; `level` 0 (emergency) to 7 (debug)."""

    sequence: int
    time: float
    level: int
    text: str

    def __str__(self) -> str:
        return f"[{self.time:12.6f}] {self.text}"


def read(kernel: GuestKernel) -> list[Message]:
    """Those that are still there, oldest first. Raises NotLinux, DamagedKernel."""
    try:
        return list(_messages(kernel))
    except GuestMemoryError as error:
        raise DamagedKernel(f"the messages of the guest's kernel cannot be read: {error}") from None


def _messages(kernel: GuestKernel) -> Iterator[Message]:
    at = kernel.u64(kernel.symbol("prb"))
    bits, descriptors, infos, head, tail = _RING.unpack(kernel.read(at, _RING.size))
    texts = _texts(kernel, at)
    if not 0 < bits <= _MOST_BITS or descriptors < KERNEL_HALF or infos < KERNEL_HALF:
        raise DamagedKernel("the guest's kernel keeps its messages in a way that Corral does not know, or is damaged")
    count = 1 << bits
    table = kernel.read(descriptors, count * _DESCRIPTOR.size)
    about = kernel.read(infos, count * _INFO.size)
    for step in range(min((head - tail) & _ID, count - 1) + 1):
        number = (tail + step) & _ID
        state, begin, end = _DESCRIPTOR.unpack_from(table, number % count * _DESCRIPTOR.size)
        if state & _ID != number or state >> 62 not in (_COMMITTED, _FINALIZED):
            continue  # it is being written, or was used again
        sequence, time, length, _, level, _ = _INFO.unpack_from(about, number % count * _INFO.size)
        yield Message(sequence, time / 1e9, level >> _LEVEL, _text(texts, begin, end, length))


def _texts(kernel: GuestKernel, at: int) -> bytes:
    for place in _TEXTS_AT:
        bits, data, _, _ = _TEXTS.unpack(kernel.read(at + place, _TEXTS.size))
        if 10 <= bits <= _MOST_TEXT_BITS and data >= KERNEL_HALF:
            return kernel.read(data, 1 << bits)
    raise DamagedKernel("the guest's kernel keeps its messages in a way that Corral does not know")


def _text(texts: bytes, begin: int, end: int, length: int) -> str:
    """A block is the number of its descriptor and the text; one that would not fit begins anew at the front. A message
    without text has odd positions."""
    if begin & 1 or end & 1:
        return ""
    size = len(texts)
    first, last = begin % size, end % size
    start = first if begin // size == end // size or last == 0 else 0
    room = max(0, (last or size) - start - 8)
    return printable(texts[start + 8 : start + 8 + min(length, room)].decode("utf-8", "replace"))
