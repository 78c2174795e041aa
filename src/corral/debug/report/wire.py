"""What the VMM tells its clerk of a dead guest, as fields of a message, and the questions of memory that follow."""

from __future__ import annotations

from struct import Struct
from struct import error as StructError

from corral.core.exits import Cause, Outcome, Over
from corral.debug.guest_registers import NativeMode
from corral.debug.report.remains import Remains, VcpuRemains
from corral.errors import ConfigError
from corral.jail import message
from corral.jail.clerk import DONE, OFFSET, READ
from corral.jail.message import BadMessage
from corral.memory import GuestMemoryError
from corral.native import ffi
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.arch.x86_64.page_walk import Memory
    from corral.jail.clerk import Clerk
    from corral.native import CData
    from corral.observe.exit_trace import TracedExit

_STRUCTURES = ("struct kvm_regs", "struct kvm_sregs", "struct kvm_vcpu_events")
_NATIVE = Struct("<???Q")  # is there, user, pairs; interrupt_flag + 1, 0 for none
_QUESTION = Struct("<QQ")  # guest physical address, length
_EXIT = Struct("<BQbQQQQQBI?")  # the fields of Exit in their order, without its two texts; CPL -1: not asked for
_HEAD = Struct("<B?H")  # vCPU, whether the console was shown, how many vCPUs
MOST_READ = 1 << 16  # bytes of a question


@record(frozen=True)
class Death:
    remains: Remains
    outcome: Outcome
    console: bytes
    shown: bool
    exits: list[TracedExit]


def packed(remains: Remains, outcome: Outcome, console: bytes, shown: bool, exits: list[TracedExit]) -> list[bytes]:
    cause = outcome.cause.value if outcome.cause else ""
    fields = [_HEAD.pack(outcome.vcpu, shown, len(remains.vcpus)), cause.encode(), outcome.detail.encode(), console]
    for vcpu in remains.vcpus:
        fields += [bytes(ffi.buffer(state)) for state in (vcpu.regs, vcpu.sregs, vcpu.events)]
        fields.append(_pack_native(vcpu.native))
    for one in exits:
        cpl = -1 if one.cpl is None else one.cpl
        access = (one.address, one.value, one.size, one.count, one.write)
        numbers = _EXIT.pack(one.vcpu, one.time, cpl, one.rip, one.guest_ns, one.host_ns, *access)
        fields += [numbers, one.reason.encode(), one.by.encode()]
    return fields


def unpacked(fields: list[bytes], kernel: str, cmdline: str, memory: Memory) -> Death:
    """Raises BadMessage for what packed() did not make."""
    from corral.observe.exit_trace import TracedExit

    try:
        vcpu, shown, count = _HEAD.unpack(fields[0])
        cause = Cause(fields[1].decode()) if fields[1] else None
        outcome = Outcome(Over.ENDED, cause, fields[2].decode(), vcpu)
        at, vcpus = 4, []
        for _ in range(count):
            regs, sregs, events = map(_structure, _STRUCTURES, fields[at : at + 3])
            vcpus.append(VcpuRemains(regs, sregs, events, _unpack_native(fields[at + 3])))
            at += 4
        vcpus[vcpu]
        exits = []
        for numbers, reason, by in zip(fields[at::3], fields[at + 1 :: 3], fields[at + 2 :: 3], strict=True):
            index, time, cpl, rip, *others = _EXIT.unpack(numbers)
            exits.append(TracedExit(index, time, reason.decode(), by.decode(), rip, None if cpl < 0 else cpl, *others))
    except (ValueError, IndexError, StructError) as error:
        raise BadMessage(str(error)) from None
    return Death(Remains(kernel, cmdline, tuple(vcpus), memory), outcome, fields[3], shown, exits)


def ask(
    clerk: Clerk,
    remains: Remains,
    outcome: Outcome,
    console: bytes,
    shown: bool,
    exits: list[TracedExit],
    headline: str = "",
) -> str:
    """The VMM's: the report for the screen; that in full is in its file then. With a `headline` that alone is made.
    Raises ConfigError where it has no place."""
    try:
        said = clerk.ask(headline.encode(), *packed(remains, outcome, console, shown, exits))
        while said[0] != DONE:
            said = clerk.ask(*answer(remains.memory, said))
    except (BadMessage, IndexError, StructError) as error:
        return f"corral: the guest died, and there is no report: {error}"
    text, trouble = (field.decode() for field in said[1:])
    if trouble:
        raise ConfigError(trouble)
    return text


def answer(memory: Memory, question: list[bytes]) -> list[bytes]:
    """The VMM's: what the clerk wants to know of guest memory; no field for what is not RAM."""
    gpa, length = _QUESTION.unpack(question[1])
    try:
        if question[0] == READ:
            return [memory.read(gpa, min(length, MOST_READ))]
        memory.offset(gpa, length)
        return [b""]
    except GuestMemoryError:
        return []


class RemoteMemory:
    """The clerk's: the guest's RAM, by questions."""

    def __init__(self, answers: int, questions: int) -> None:
        self._answers, self._questions = answers, questions

    def read(self, gpa: int, length: int) -> bytes:
        """At most MOST_READ bytes."""
        data = self._ask(READ, gpa, length)
        if len(data) != length:
            raise BadMessage("not as many bytes of memory as were asked for")
        return data

    def offset(self, gpa: int, length: int) -> int:
        self._ask(OFFSET, gpa, length)
        return 0

    def _ask(self, what: bytes, gpa: int, length: int) -> bytes:
        if gpa >> 64 or length > MOST_READ:
            raise GuestMemoryError(f"{length} bytes at guest physical address {gpa:#x} are not all RAM")
        message.send(self._questions, what, _QUESTION.pack(gpa, length))
        answer = message.receive(self._answers)
        if not answer:
            raise GuestMemoryError(f"{length} bytes at guest physical address {gpa:#x} are not all RAM")
        return answer[0]


def _structure(name: str, content: bytes) -> CData:
    if len(content) != ffi.sizeof(name):
        raise ValueError(f"{len(content)} bytes of {name}")
    state = ffi.new(f"{name} *")
    ffi.buffer(state)[:] = content
    return state


def _pack_native(mode: NativeMode | None) -> bytes:
    if mode is None:
        return _NATIVE.pack(False, False, False, 0)
    flag = 0 if mode.interrupt_flag is None else mode.interrupt_flag + 1
    return _NATIVE.pack(True, mode.user, mode.pairs, flag)


def _unpack_native(content: bytes) -> NativeMode | None:
    there, user, pairs, flag = _NATIVE.unpack(content)
    return NativeMode(user, pairs, flag - 1 if flag else None) if there else None
