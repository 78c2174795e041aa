"""Where in a function a probe may lie: at a PUSH near its beginning, which the host does for the vCPU.

What lies before it leaves the registers of the arguments alone: ENDBR64, the NOP or CALL that is there for the kernel's
own tracing, and a few MOV. The kernel rewrites those itself, so a probe does not touch them.
"""

from __future__ import annotations

from corral.debug.traps import ANSWERED
from corral.errors import ConfigError
from corral.memory import PAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LOOKED_AT = 48  # bytes of a function
_REX_B = 0x41
_PUSH, _PUSHED = 0x50, ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")
_KEPT = ("endbr64", "nop", "mov", "movsxd", "push")
_TRACING = "call"  # of a kernel whose functions can be traced, as their first instruction
_WRITTEN = ("rdi", "edi", "rdx", "edx", "rcx", "ecx", "r8", "r8d", "r9", "r9d")  # would not be the caller's any more
ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")  # System V ABI


def pushed(code: bytes) -> tuple[str, int] | None:
    """The register that the instruction at the beginning of `code` pushes, and its length. None: another one."""
    if code[:1] and _PUSH <= code[0] < _PUSH + 8:
        return _PUSHED[code[0] - _PUSH], 1
    if code[:1] == bytes((_REX_B,)) and code[1:] and _PUSH <= code[1] < _PUSH + 8:
        return f"r{8 + code[1] - _PUSH}", 2
    return None


def find(address: int, read: Callable[[int, int], bytes], name: str) -> int:
    """The linear address of the PUSH. `address` is the function's, `read` gives code. Raises ConfigError."""
    import capstone

    code = read(address, LOOKED_AT)
    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    for start, size, mnemonic, operands in engine.disasm_lite(code, address):
        at = int(start)
        offset = at - address
        if pushed(code[offset:]) and _takes_a_probe(at, code[offset + 1 : offset + 2]):
            return at
        first = not offset or (code[:4] == b"\xf3\x0f\x1e\xfa" and offset == 4)
        if mnemonic == _TRACING and first and size == 5:
            continue
        if mnemonic not in _KEPT or operands.partition(",")[0] in _WRITTEN:
            break
    raise ConfigError(
        f"{name} does not begin with code that a probe can lie at; take one that it calls, or a breakpoint"
    )


def _takes_a_probe(at: int, following: bytes) -> bool:
    """Whether OUT imm8, whose port would be the next byte, is one that no device of KVM's answers."""
    return (at + 1) % PAGE != 0 and len(following) == 1 and following[0] not in ANSWERED
