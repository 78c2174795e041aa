"""What was found: an input that crashed its target, ended the guest, or took too long; known again by its stack."""

from __future__ import annotations

import os
import re
import signal

from corral import voice
from corral.errors import HostError
from corral.fuzz.port import Said
from corral.printable import printable
from corral.startup.digest import sha256
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.fuzz.area import ToldCrash
    from corral.fuzz.machine import FuzzedMachine
    from corral.symbols.table import Symbols

CRASH, END, TIMEOUT = KINDS = ("crash", "end", "timeout")
MOST = 1000  # that are kept of one session: a target can make up as many as it likes
_SAME = 3  # places of a stack that make two findings one
_LAST = 1 << 16  # bytes of the console that are looked at
# As Linux tells a panic or an oops (arch/x86/kernel/dumpstack.c): where it was, and who called.
_PLACE = re.compile(rb"RIP: [0-9a-f]{4}:(?:\[<[0-9a-f]+>\] )?([\w.]+)\+0x[0-9a-f]+/")
_CALLER = re.compile(rb"\]  ([\w.]+)\+0x[0-9a-f]+/0x[0-9a-f]+", re.ASCII)
_WORDS = re.compile(rb"(?:Kernel panic - not syncing|BUG|Oops|Internal error|KASAN|UBSAN): ([^\r\n]{1,160})")


@record(frozen=True)
class FuzzFinding:
    """`kind` is one of KINDS; `what` says it in a line; `stack` names places, the innermost first;
    `report` is all that can be said of the guest, "" where that was said already."""

    kind: str
    what: str
    stack: tuple[str, ...]
    report: str = ""

    @property
    def name(self) -> str:
        """The same for findings that have the kind and the innermost places in common."""
        places = self.stack[: 1 if self.kind == TIMEOUT else _SAME] or (self.what,)
        return f"{self.kind}-{sha256(chr(0).join(places).encode()).hex()[:12]}"


def of(vm: FuzzedMachine, said: Said | None, told: ToldCrash, symbols: Symbols | None, limit: float) -> FuzzFinding:
    """Of a machine that is paused, or over; without its report."""
    if said is Said.CRASHED:
        names = _told_stack(vm, symbols, told)
        what = f"{_signal(told.reason)} at {names[0]}" + (f", address {told.address:#x}" if told.address else "")
        return FuzzFinding(CRASH, what, names)
    if vm.has_ended:
        ended = next(thread for thread in vm.threads if thread.end)
        console = vm.console.output[-_LAST:]
        panic, stack = _WORDS.search(console), _console_stack(console)
        what = str(ended.end) + (f": {panic[1].decode('ascii', 'replace')}" if panic else "")
        return FuzzFinding(END, printable(what), stack or _stack(vm, ended.index))
    place = _name(vm, symbols, vm.regs.rip)
    return FuzzFinding(TIMEOUT, f"no answer within {limit:g} s; it was at {place}", (place.partition("+")[0],))


def _name(vm: FuzzedMachine, program: Symbols | None, address: int) -> str:
    """A place in the program, if there is one, or in the kernel."""
    symbols = program if program and address < 1 << 63 else vm.known_symbols()
    return symbols.text(address) if symbols else f"{address:#x}"


def _told_stack(vm: FuzzedMachine, program: Symbols | None, told: ToldCrash) -> tuple[str, ...]:
    """As far as it is in the program: what an overflow has left of a stack leads anywhere."""
    names = [_name(vm, program, told.pc)]
    for address in told.stack:
        if program and not program.find(address):
            break
        names.append(_name(vm, program, address))
    return tuple(names)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"reason {number}"


def _console_stack(console: bytes) -> tuple[str, ...]:
    """Of the first oops on the console."""
    place = _PLACE.search(console)
    if not place:
        return ()
    callers = [found.decode() for found in _CALLER.findall(console, place.end())]
    return (place[1].decode(), *callers[:7])


def _stack(vm: FuzzedMachine, vcpu: int) -> tuple[str, ...]:
    """By the registers of a guest that ended: some KVM show those of a reset instead, and then it has none."""
    rip = int(vm.regs_of(vcpu).rip)
    return () if rip == 0xFFF0 else (_name(vm, None, rip),)


class Findings:
    """Those of one session, in a folder: NAME is the input, NAME.txt its report. One that is there already, from an
    earlier session or another job, is not written again. Raises HostError where it cannot be written."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.names: dict[str, int] = {}  # how often each was found
        self.untold = 0  # findings beyond MOST

    def add(self, data: bytes, finding: FuzzFinding, command: str) -> bool:
        """Whether it is a new one. `command` replays it, with the path of the input behind."""
        name = finding.name
        if name not in self.names and len(self.names) >= MOST:
            self.untold += 1
            return False
        self.names[name] = self.names.get(name, 0) + 1
        path = os.path.join(self.folder, name)
        if self.names[name] > 1 or os.path.exists(path):
            return False
        try:
            write(path, data)
            write(f"{path}.txt", text(finding, f"{command} {path}").encode())
        except OSError as error:
            raise HostError(f"cannot write {path!r}: {error.strerror}; make room, or name other --crashes") from None
        return True


def is_one(name: str) -> bool:
    """Whether a file of the folder is the input of a finding."""
    return name.startswith(KINDS) and "." not in name


def text(finding: FuzzFinding, replay: str) -> str:
    stack = [f"  {place}" for place in finding.stack] or ["  not known"]
    lines = [f"{finding.kind}: {finding.what}", "", "once more:", f"  {replay}", "", "stack of the target:", *stack]
    return printable("\n".join(lines), keep="\n") + "\n\n" + finding.report


def write(path: str, data: bytes) -> None:
    """Whole or not at all, for other jobs look into the folder. Raises OSError."""
    unfinished = os.path.join(os.path.dirname(path), f".{os.getpid()}-{os.path.basename(path)}")
    with open(unfinished, "wb", opener=voice.opener) as file:
        file.write(data)
    os.replace(unfinished, path)
