"""Everything that is counted of a machine, as rows of one table: KVM's statistics, the host's performance counters, and
Corral's own."""

from __future__ import annotations

import time

from corral.core.exits import exit_reasons
from corral.errors import HostError
from corral.kvm.stats import Statistic, Statistics
from corral.observe.perf_counters import EVENTS, PerfCounters
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.machine import Machine


@record(frozen=True)
class TallyRow:
    """`per_vcpu` is () for what is counted of the whole machine. `adds`: it only grows, so a rate has a meaning."""

    group: str
    name: str
    unit: str
    total: int
    per_vcpu: tuple[int, ...] = ()
    adds: bool = True


class Tally:
    """A context manager over a machine; performance counters begin when step() first finds a vCPU's thread."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._began = time.monotonic()
        self._perf: dict[int, PerfCounters] = {}
        self._kvm: list[Statistics] = []
        self.missing: dict[str, str] = {}
        """Why something is not counted, by what it is."""
        try:
            for fd in (machine.vm.fd, *(vcpu.fd for vcpu in machine.vcpus)):
                self._kvm.append(Statistics(fd))
        except HostError as error:
            self.missing["KVM"] = str(error)

    def __enter__(self) -> Tally:
        return self

    def __exit__(self, *exception: object) -> None:
        for counters in self._perf.values():
            counters.close()
        for statistics in self._kvm:
            statistics.close()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def step(self) -> None:
        """Counts threads that run meanwhile."""
        for thread in self._machine.threads:
            if thread.tid and thread.index not in self._perf:
                self._perf[thread.index] = counters = PerfCounters(thread.tid)
                self.missing |= counters.missing

    def rows(self) -> list[TallyRow]:
        """As it is now; what is zero everywhere is left out."""
        rows = [*self._of_corral(), *self._of_perf(), *self._of_kvm()]
        return [row for row in rows if row.total or any(row.per_vcpu)]

    def _of_corral(self) -> list[TallyRow]:
        rows = []
        vcpus = [vcpu.native for vcpu in self._machine.vcpus]
        for name, number in sorted(exit_reasons().items(), key=lambda item: item[1]):
            if number < 64:
                exits = tuple(int(vcpu.exits[number]) for vcpu in vcpus)
                rows.append(TallyRow("exits", name, "", sum(exits), exits))
                finished = tuple(int(vcpu.finished[number]) for vcpu in vcpus)
                rows.append(TallyRow("exits", f"{name}, finished in C", "", sum(finished), finished))
        for transport in self._machine.virtio:
            device = transport.device
            for name, value in device.counters().items():
                rows.append(TallyRow(device.name, name, "bytes" if "bytes" in name.split() else "", value))
        for name, value in self._machine.serial.stats().items():
            rows.append(TallyRow("console", name, "bytes", int(value)))
        return rows

    def _of_perf(self) -> list[TallyRow]:
        read = {index: counters.read() for index, counters in self._perf.items()}
        rows = []
        for event in EVENTS:
            values = tuple(read.get(index, {}).get(event.name, 0) for index in range(len(self._machine.vcpus)))
            rows.append(TallyRow("host", event.name, event.unit, sum(values), values))
        return rows

    def _of_kvm(self) -> list[TallyRow]:
        if not self._kvm or "KVM" in self.missing:
            return []
        rows = [_row("KVM, VM", [one], ()) for one in self._kvm[0].read()]
        of_vcpus = [statistics.read() for statistics in self._kvm[1:]]
        for alike in zip(*of_vcpus, strict=True):
            rows.append(_row("KVM, vCPUs", list(alike), tuple(one.value for one in alike)))
        return rows


def _row(group: str, alike: list[Statistic], per_vcpu: tuple[int, ...]) -> TallyRow:
    one = alike[0]
    scale = f"{one.base}^{one.exponent} " if one.exponent else ""
    unit = f"{scale}{one.unit}" if one.unit != "boolean" else ""
    adds = one.kind not in ("instant", "peak")
    return TallyRow(group, one.name, unit.strip(), sum(each.value for each in alike), per_vcpu, adds)


def table(rows: list[TallyRow], before: list[TallyRow], seconds: float) -> str:
    """Totals, the rate since `before`, and of each vCPU."""
    vcpus = max((len(row.per_vcpu) for row in rows), default=0)
    earlier = {(row.group, row.name): row.total for row in before}
    heads = ["total", "a second", *(f"vCPU {index}" for index in range(vcpus) if vcpus > 1)]
    lines, group = [" " * 38 + "".join(f"{head:>16}" for head in heads)], ""
    for row in rows:
        if row.group != group:
            group = row.group
            lines.append(f"{group}:")
        rate = (row.total - earlier.get((row.group, row.name), 0)) / seconds if row.adds and seconds > 0 else None
        cells = [f"{row.total:,}", "" if rate is None else f"{rate:,.0f}"]
        cells += [f"{value:,}" for value in row.per_vcpu] if vcpus > 1 else []
        name = f"  {row.name}" + (f", {row.unit}" if row.unit else "")
        lines.append(f"{name:38}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)
