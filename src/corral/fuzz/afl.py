"""AFL++ as the engine: this process is what afl-fuzz takes for its target's fork server (afl-fuzz 4, persistent, with
inputs and map in shared memory). afl-fuzz is not of Corral; Debian's package is afl++."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import subprocess

from corral.errors import HostError
from corral.fuzz import findings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.fuzz.findings import Findings, FuzzFinding
    from corral.fuzz.target import Execution

MAP, INPUT = "__AFL_SHM_ID", "__AFL_SHM_FUZZ_ID"  # in the environment: numbers of System V's shared memory
MAP_SIZE = 1 << 16  # bytes, of afl-fuzz unless it is told another
RECOVERY = 2000  # ms that the way back to the checkpoint takes at most, with others at work; afl-fuzz counts it
_PATIENCE = 60.0  # seconds
_ASKS, _ANSWERS = 198, 199  # descriptors
_LARGEST = 1 << 20  # bytes of an input (MAX_FILE)
_ENABLED, _HAS_MAP_SIZE, _INPUT_SHARED = 0x80000001, 0x40000000, 0x01000000  # of the first word (include/types.h)
_WORD = struct.Struct("<I")


class ForkServer:
    """`step` is what Target.drive() is given. `edges` of the target are in afl-fuzz's map as they are. Raises HostError
    for an afl-fuzz that lacks what this needs."""

    def __init__(self, edges: int, kept: Findings, command: str, tell: Callable[[str, FuzzFinding], object]) -> None:
        if edges > MAP_SIZE:
            raise HostError(f"the target has {edges} edges, and afl-fuzz a map of {MAP_SIZE}; use --engine corral")
        self._findings, self._command, self._tell = kept, command, tell
        self._child: subprocess.Popen[bytes] | None = None
        self._map = _attached(MAP, MAP_SIZE)
        size = max(edges, 64)
        said = _ENABLED | _HAS_MAP_SIZE | (size - 1) << 1 | _INPUT_SHARED
        self._answer(said)
        if self._asked() is None or INPUT not in os.environ:
            raise HostError("this afl-fuzz shares no inputs; install one of AFL++ 4: apt-get install afl++")
        self._input = _attached(INPUT, _LARGEST + _WORD.size)

    def step(self, done: Execution | None) -> bytes | None:
        if done:
            finding = done.finding
            ctypes.memmove(self._map, done.coverage, len(done.coverage))
            if finding and self._findings.add(done.data, finding, self._command):
                self._tell(finding.name, finding)
            late = finding is not None and finding.kind == findings.TIMEOUT
            if late:
                self._await_kill()
            self._answer(signal.SIGSEGV if finding and not late else 0)
        if self._asked() is None:
            return None
        self._answer(self._stand_in())
        (length,) = _WORD.unpack(ctypes.string_at(self._input, _WORD.size))
        return ctypes.string_at(self._input + _WORD.size, min(length, _LARGEST))

    def _stand_in(self) -> int:
        """A process for afl-fuzz to kill when an input takes too long; the machine notices by itself."""
        if self._child is None or self._child.poll() is not None:
            self.close()
            try:
                # It ends with this process, however that ends.
                self._child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            except OSError as error:
                raise HostError(f"cannot start cat: {error.strerror}; install coreutils") from None
        return self._child.pid

    def _await_kill(self) -> None:
        """afl-fuzz finds out by itself that an input takes too long, and has more patience than the machine: it counts
        the way back to the checkpoint too."""
        assert self._child
        try:
            self._child.wait(_PATIENCE)
        except subprocess.TimeoutExpired:  # then it is none to it
            pass

    def _answer(self, word: int) -> None:
        os.write(_ANSWERS, _WORD.pack(word))

    def _asked(self) -> bytes | None:
        """None when afl-fuzz has ended."""
        return os.read(_ASKS, _WORD.size) or None

    def close(self) -> None:
        if self._child:
            self._child.kill()
            self._child.wait()
            if self._child.stdin:
                self._child.stdin.close()


def _attached(name: str, size: int) -> int:
    """The address of shared memory that has at least so many bytes."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    libc.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
    number = os.environ.get(name, "")
    address = libc.shmat(int(number), None, 0) if number.isdigit() else None
    if address in (None, ctypes.c_void_p(-1).value):
        raise HostError(f"cannot attach the {size} bytes of {name} that afl-fuzz shares; it has ended")
    return int(address)


def command(
    words: list[str], inputs: str, output: str, milliseconds: int, seconds: float | None, name: str
) -> list[str]:
    """The command line of afl-fuzz for a target, whose own is `words`."""
    limit = ["-V", str(max(1, round(seconds)))] if seconds is not None else []
    return ["afl-fuzz", "-i", inputs, "-o", output, *name.split(), "-t", str(milliseconds), *limit, "--", *words]


ENVIRONMENT = {
    "AFL_SKIP_BIN_CHECK": "1",  # what it starts is Python
    "AFL_FORKSRV_INIT_TMOUT": "120000",  # the guest boots first
    "AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES": "1",  # the host's core_pattern
    "AFL_SKIP_CPUFREQ": "1",
    "AFL_NO_AFFINITY": "1",
    "AFL_NO_UI": "1",
    "AFL_MAP_SIZE": str(MAP_SIZE),
}
