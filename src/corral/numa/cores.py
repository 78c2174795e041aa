"""Which CPUs of a node: whole cores first, near one another, away from what other machines have pinned."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from corral.numa.host import Cpu


def choose(cpus: Iterable[Cpu], count: int, threads: int, load: Mapping[int, int]) -> list[Cpu] | None:
    """`count` CPUs, one a vCPU, in the order of vCPUs; None when so many are not free.

    `threads`: so many vCPUs in a row are to be siblings, where there are such; 0: a core for each vCPU if there are
    enough, else all siblings of as few cores as that takes.
    """
    free = [cpu for cpu in cpus if not load.get(cpu.id)]
    if len(free) < count:
        return None
    cores = _cores(free, load)
    if threads > 1:
        whole = [core for core in cores if len(core) >= threads]
        if len(whole) * threads >= count:
            return _in_order(whole, count // threads, threads)
    elif len(cores) >= count:
        return _in_order(cores, count, 1)
    taken: list[Cpu] = []
    for core in sorted(cores, key=len, reverse=True):
        taken += core
    return sorted(taken[:count], key=_place)


def _cores(free: Iterable[Cpu], load: Mapping[int, int]) -> list[list[Cpu]]:
    """Cores with no machine on a sibling first; of those the ones that share a last cache together, and the cache
    with the most of them first."""
    by_core: dict[tuple[int, int], list[Cpu]] = {}
    for cpu in free:
        by_core.setdefault((cpu.llc, cpu.core), []).append(cpu)
    shared = {core for (_, core), members in by_core.items() if any(load.get(cpu.core) for cpu in members)}
    in_cache: dict[int, int] = {}
    for llc, _ in by_core:
        in_cache[llc] = in_cache.get(llc, 0) + 1
    order = sorted(by_core, key=lambda key: (key[1] in shared, -in_cache[key[0]], key))
    return [sorted(by_core[key], key=lambda cpu: cpu.id) for key in order]


def _in_order(cores: Sequence[list[Cpu]], count: int, threads: int) -> list[Cpu]:
    """`threads` siblings each of the first `count` cores, by their place in the machine."""
    chosen = sorted(cores[:count], key=lambda core: _place(core[0]))
    return [cpu for core in chosen for cpu in core[:threads]]


def _place(cpu: Cpu) -> tuple[int, ...]:
    return cpu.package, cpu.die, cpu.llc, cpu.core, cpu.id
