"""python -m benchmarks.boot_profile [KERNEL-NAME] [PARAMETER...]: where a boot to init spends its time.

Stops the vCPU HZ times a second and looks up RIP, and what on the stack is an address in the kernel's text, in
System.map. Without frame pointers the stack has stale addresses too, so shares "with callees" are upper bounds.
Also the number of instructions that KVM interpreted (api.rst 4.133), which hardly depends on what else runs here.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import threading
import time
from collections import Counter

from corral.config import MachineConfig
from corral.console import Console
from corral.guests import initramfs, kernel, parameters
from corral.guests.default import MEMORY
from corral.kvm.system import host_kind
from corral.machine import Machine
from corral.toolkit.symbols import KERNEL_MAP, Symbols, read

HZ = 400
LIMIT = 120.0  # seconds
STACK = 1536  # bytes of it that are searched
MARK = b"corral: init"
DIRECT_MAP = 0xFFFF888000000000  # Documentation/x86/x86_64/mm.rst, 4-level tables
KVM_GET_STATS_FD = 0xAECE
FUNCTIONS = 40


class Sampler(threading.Thread):
    """Counts where the vCPU is, by itself and on the stack, until `stop` is set."""

    def __init__(self, machine: Machine, symbols: Symbols) -> None:
        super().__init__(daemon=True)
        self.own: Counter[str] = Counter()
        self.with_callees: Counter[str] = Counter()
        self.stop = threading.Event()
        self._machine, self._symbols = machine, symbols

    def run(self) -> None:
        vcpu = self._machine.threads[0]
        while not self.stop.wait(1 / HZ):
            vcpu.pause()
            if vcpu.state.value != "paused":
                return
            registers = vcpu.vcpu.get_regs()
            here = self._name(registers.rip)
            self.own[here] += 1
            self.with_callees.update({here, *self._callers(registers.rsp)})
            vcpu.resume()

    def _name(self, address: int) -> str:
        found = self._symbols.find(address)
        return found[0] if found else "(not in the kernel)"

    def _callers(self, stack: int) -> set[str]:
        gpa = stack - (KERNEL_MAP if stack >= KERNEL_MAP else DIRECT_MAP)
        if not 0 <= gpa <= self._machine.memory.low_end - STACK:
            return set()
        words = struct.unpack(f"<{STACK // 8}Q", self._machine.memory.read(gpa, STACK))
        return {self._name(word) for word in words if self._symbols.first <= word < self._symbols.last}


def interpreted(vcpu: int) -> int:
    """How many instructions KVM has interpreted on this vCPU, given its descriptor."""
    statistics = fcntl.ioctl(vcpu, KVM_GET_STATS_FD)
    try:
        _, name_size, count, _, descriptors, data = struct.unpack("<6I", os.pread(statistics, 24, 0))
        for index in range(count):
            raw = os.pread(statistics, 16 + name_size, descriptors + index * (16 + name_size))
            if raw[16:].rstrip(b"\0") == b"insn_emulation":
                (offset,) = struct.unpack_from("<I", raw, 8)
                return int.from_bytes(os.pread(statistics, 8, data + offset), "little")
    finally:
        os.close(statistics)
    raise RuntimeError("this KVM does not count interpreted instructions")


def main() -> int:
    name = sys.argv[1] if len(sys.argv) > 1 else "small"
    image = kernel.get(name)
    assert image.symbols is not None
    kind = host_kind()
    config = MachineConfig(
        kernel=image.path,
        initrd=initramfs.path(),
        cmdline=" ".join([parameters.for_kind(kind, name not in kernel.VARIANTS), *sys.argv[2:]]),
        memory=MEMORY[kind],
    )
    reader, writer = os.pipe()
    with Machine(config) as machine, open(reader, "rb") as output:
        sampler = Sampler(machine, read(image.symbols))
        runs = threading.Thread(target=machine.run, args=(Console(writer), LIMIT))
        runs.start()
        sampler.start()
        for line in output:
            if MARK in line:
                break
        instructions, seconds = interpreted(machine.vcpus[0].fd), time.process_time()
        sampler.stop.set()
        sampler.join()
        machine.stop()
        os.close(writer)
    total = sampler.own.total()
    print(f"{instructions / 1e6:.2f} million instructions, {seconds:.2f} s of processor time, {total} samples\n")
    print("by itself                                    with callees")
    pairs = zip(sampler.own.most_common(FUNCTIONS), sampler.with_callees.most_common(FUNCTIONS), strict=False)
    for (function, own), (caller, both) in pairs:
        print(f"{100 * own / total:5.1f} % {function:36} {100 * both / total:5.1f} % {caller}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
