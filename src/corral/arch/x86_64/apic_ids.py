"""APIC ids that tell a processor's place: a field of bits for each level, threads lowest (SDM 3A, 9.9.1; APM 3, leaf
0xB)."""

from __future__ import annotations

from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    class Planned(Protocol):
        """A processor's place: numbers from 0 within what is around it."""

        @property
        def package(self) -> int: ...
        @property
        def die(self) -> int: ...
        @property
        def complex(self) -> int: ...
        @property
        def core(self) -> int: ...
        @property
        def thread(self) -> int: ...


HIGHEST = 254  # of an xAPIC; Linux takes higher ones only with interrupt remapping


@record(frozen=True)
class Widths:
    """How many low bits of an APIC id tell apart what is within a core, a complex (which shares the last cache), a die
    and a package."""

    core: int = 0
    complex: int = 0
    die: int = 0
    package: int = 0


@record(frozen=True)
class Position:
    """A processor's `apic_id` and what CPUID says around it: the most `threads` of a core, the most `processors` and
    `dies` of a package."""

    apic_id: int
    widths: Widths
    threads: int = 1
    processors: int = 1
    dies: int = 1


def flat(cpus: int) -> list[Position]:
    """Each a core of its own, in one package."""
    bits = (cpus - 1).bit_length()
    return [Position(cpu, Widths(0, bits, bits, bits), 1, cpus) for cpu in range(cpus)]


def placed(cpus: Sequence[Planned]) -> list[Position]:
    """By a plan; without dies and complexes where their bits make ids too large, flat where packages do."""
    places = [(cpu.package, cpu.die, cpu.complex, cpu.core, cpu.thread) for cpu in cpus]
    positions = _positions(places)
    if max(position.apic_id for position in positions) > HIGHEST:
        cores: dict[int, dict[tuple[int, ...], int]] = {}
        for place in places:
            within = cores.setdefault(place[0], {})
            within.setdefault(place[1:4], len(within))
        positions = _positions([(place[0], 0, 0, cores[place[0]][place[1:4]], place[4]) for place in places])
    return positions if max(position.apic_id for position in positions) <= HIGHEST else flat(len(cpus))


def _positions(places: Sequence[tuple[int, int, int, int, int]]) -> list[Position]:
    most = [max(place[level] for place in places) + 1 for level in range(5)]
    bits = [(count - 1).bit_length() for count in most]
    core = bits[4]
    complex = core + bits[3]
    die = complex + bits[2]
    widths = Widths(core, complex, die, die + bits[1])
    packages = [place[0] for place in places]
    processors = max(packages.count(package) for package in packages)
    return [
        Position(
            place[0] << widths.package | place[1] << die | place[2] << complex | place[3] << core | place[4],
            widths,
            most[4],
            processors,
            most[1],
        )
        for place in places
    ]
