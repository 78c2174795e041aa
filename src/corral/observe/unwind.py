"""Who called the code at RIP: by frame pointers where a kernel keeps them, else by the return addresses on its stack.

A stack has stale words, too. One is taken for a return address when a call instruction is before it, and that calls the
function that was found last, or calls through a register or memory, which may call anything. A guest may
have anything in its memory: no more comes of it than a wrong name.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.symbols.table import Symbols

DEEPEST = 64  # frames
_CALL = 0xE8  # with a distance of 32 bits
_INDIRECT = 0xFF
# FF /2: bytes of it by its ModRM's mode, without SIB.
_LENGTHS = {0: (2, 6), 1: (3,), 2: (6,), 3: (2,)}


class Unwinder:
    """`read(address, length)` gives the code of the kernel, or fewer bytes; each place is asked for once."""

    def __init__(self, symbols: Symbols, read: Callable[[int, int], bytes]) -> None:
        self._symbols, self._read = symbols, read
        self._calls: dict[int, int | None] = {}

    def stack(self, rip: int, rsp: int, rbp: int, content: bytes) -> tuple[list[int], bool]:
        """RIP and the return addresses, innermost first, and whether they are guessed. `content`: memory from RSP."""
        by_frames = self._frames(rip, rsp, rbp, content)
        if len(by_frames) > 1:
            return by_frames, False
        found, words = [rip], struct.unpack(f"<{len(content) // 8}Q", content[: len(content) // 8 * 8])
        for word in words:
            if len(found) < DEEPEST and self._symbols.find(word) and self._may_have_called(word, found[-1]):
                found.append(word)
        return found, True

    def _frames(self, rip: int, rsp: int, rbp: int, content: bytes) -> list[int]:
        found = [rip]
        while len(found) < DEEPEST:
            at = rbp - rsp
            if at < 0 or at % 8 or at + 16 > len(content):
                break
            rbp, back = struct.unpack_from("<QQ", content, at)
            if not self._symbols.find(back) or self._target(back) is None:
                break
            found.append(back)
            if rbp <= rsp + at:
                break
        return found

    def _may_have_called(self, back: int, callee: int) -> bool:
        target = self._target(back)
        if target is None:
            return False
        found = self._symbols.find(callee)
        return target == 0 or (found is not None and target == callee - found[1])

    def _target(self, back: int) -> int | None:
        """What the call before this address calls; 0: unknown, None: there is no call."""
        if back not in self._calls:
            self._calls[back] = self._decoded(back)
        return self._calls[back]

    def _decoded(self, back: int) -> int | None:
        code = self._read(back - 7, 7)
        if len(code) < 7:
            return None
        if code[2] == _CALL:
            return back + int.from_bytes(code[3:7], "little", signed=True) & (1 << 64) - 1
        for length in (2, 3, 4, 6, 7):
            first, modrm = code[7 - length], code[8 - length]
            if first != _INDIRECT or modrm >> 3 & 7 != 2:
                continue
            has_sib = modrm >> 6 != 3 and modrm & 7 == 4
            if length - has_sib in _LENGTHS[modrm >> 6] and (length != 6 or modrm >> 6 or modrm & 7 == 5):
                return 0
        return None
