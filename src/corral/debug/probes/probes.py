"""The probes of one machine: traps at functions of its kernel, each told on the thread of the vCPU that came by, which
then goes on. The other vCPUs do not stop.

A probe is OUT of EAX, which is an exit however a kernel runs (debug/traps.py), in place of a PUSH that the host does
then. So it stays where it is, and no call is missed. While the machine is paused the guest's memory has its own code.
"""

from __future__ import annotations

import time

from corral.arch.x86_64 import page_walk
from corral.core.hooks import Hook
from corral.debug.probes import place
from corral.debug.probes.hit import Hit
from corral.debug.traps import Traps
from corral.errors import ConfigError
from corral.kvm.system import Kind
from corral.native import lib
from corral.startup.record import record
from corral.startup.threads import RLock
from corral.symbols.table import KERNEL_MAP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.core.vcpu_thread import VcpuThread
    from corral.machine import Machine
    from corral.native import CData

MOST = 64  # probes of a machine
_SIZE, _LENGTH = 4, 2  # bytes that OUT imm8, EAX writes, and its own


class Probe:
    """One place, and who is told. `called` gets a Hit; what it raises ends the probe, and pauses the guest."""

    def __init__(self, probes: Probes, address: int, called: Callable[[Hit], object]) -> None:
        self.address, self.called = address, called
        self.hits = 0
        self._probes = probes

    def close(self) -> None:
        """Takes it out; does nothing the second time. Not from within `called`."""
        self._probes.remove(self)

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@record(frozen=True)
class _Place:
    """What the trap stands for, and the probes there."""

    gpa: int
    register: str
    length: int
    probes: tuple[Probe, ...]


class Probes(Hook):
    name = "probes"
    reasons = 1 << lib.KVM_EXIT_IO

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._behind = machine.system.kind is Kind.PAGETABLE
        self._traps = Traps(machine.memory, True, self._behind)
        self._places: dict[int, _Place] = {}  # by linear address; replaced as a whole, for vCPUs look at it meanwhile
        self._changing = RLock()
        machine.hooks.attach(self)

    def add(self, address: int, called: Callable[[Hit], object]) -> Probe:
        """At a PUSH (place.find). Raises ConfigError where there is none by now."""
        with self._changing:
            known = self._places.get(address)
            if known is None and len(self._places) >= MOST:
                raise ConfigError(f"there are {MOST} probes already; close one")
            probe = Probe(self, address, called)
            with _Still(self.machine):
                found = known or self._place(address)
                self._places = self._places | {address: _Place(*_first(found), (*found.probes, probe))}
        return probe

    def remove(self, probe: Probe) -> None:
        with self._changing:
            found = self._places.get(probe.address)
            if found is None or probe not in found.probes:
                return
            left = tuple(one for one in found.probes if one is not probe)
            if self.machine.closed:
                return
            with _Still(self.machine):
                places = dict(self._places)
                if left:
                    places[probe.address] = _Place(*_first(found), left)
                else:
                    del places[probe.address]
                self._places = places
            if not places:
                self.machine.hooks.detach(self)

    def _place(self, address: int) -> _Place:
        """Of the guest's own code: the machine is paused."""
        memory = self.machine.memory
        gpa = page_walk.translate(memory, self.machine.vcpus[0].get_sregs(), address)
        if gpa is None and KERNEL_MAP <= address < KERNEL_MAP + memory.low_end:
            gpa = address - KERNEL_MAP  # of a kernel that has no page tables yet
        push = place.pushed(memory.read(gpa, 2)) if gpa is not None else None
        if gpa is None or push is None:
            raise ConfigError(f"{address:#x} has another code than the kernel's file; a probe cannot lie there")
        return _Place(gpa, *push, ())

    # For the machine (core/hooks.py).

    def paused(self) -> None:
        self._traps.take_out()

    def resumes(self) -> None:
        for found in self._places.values():
            self._traps.put(found.gpa)

    def take(self, thread: VcpuThread) -> bool:
        run = thread.vcpu.run_page
        if run.exit_reason != lib.KVM_EXIT_IO:
            return False
        io = run.io
        if io.size != _SIZE or io.count != 1 or io.direction == lib.KVM_EXIT_IO_IN:
            return False
        now = time.monotonic_ns()
        regs = thread.vcpu.get_regs()
        address = int(regs.rip) - (_LENGTH if self._behind else 0)
        found = self._places.get(address)
        if found is None:
            return False
        hit = Hit(self.machine.memory, thread.vcpu, thread.index, regs, now)
        if not self._push(hit, regs, address, found):
            return True
        for probe in found.probes:
            probe.hits += 1
            try:
                probe.called(hit)
            except BaseException as error:
                self._places = self._places | {
                    address: _Place(*_first(found), tuple(one for one in found.probes if one is not probe))
                }
                self.machine.hooks.fail(self, thread, error)
        return True

    def _push(self, hit: Hit, regs: CData, address: int, found: _Place) -> bool:
        """Does what the trap stands for. False: there is no stack, and the guest gets the fault itself."""
        regs.rip = address
        gpa = hit.translate(regs.rsp - 8)
        if gpa is not None:
            self.machine.memory.write(gpa, int(getattr(regs, found.register)).to_bytes(8, "little"))
            regs.rsp -= 8
            regs.rip = address + found.length
        else:
            self._traps.take_out_at(found.gpa)
        hit.vcpu.set_regs(regs)
        return gpa is not None


def _first(found: _Place) -> tuple[int, str, int]:
    return found.gpa, found.register, found.length


class _Still:
    """A machine that is paused meanwhile, and runs after it if it did before."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def __enter__(self) -> None:
        self._ran = self._machine.started and any(thread.is_free for thread in self._machine.threads)
        if self._ran:
            for thread in self._machine.threads:
                thread.request_pause()
            for thread in self._machine.threads:
                thread.pause()
        self._machine.hooks.paused()

    def __exit__(self, *exception: object) -> None:
        if self._ran or not self._machine.started:
            self._machine.hooks.resumes()
        if self._ran:
            for thread in self._machine.threads:
                thread.resume()


def of(machine: Machine) -> Probes:
    """Those of this machine, which has one or gets it."""
    for hook in machine.hooks.attached:
        if isinstance(hook, Probes):
            return hook
    return Probes(machine)
