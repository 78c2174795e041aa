"""Exits that C finishes by itself, taken out of its hands and given back, by several who need not know each other."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from corral.native import CData, check, ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.vcpu import Vcpu


class Finishers:
    """Of one vCPU, which is out of the guest when exits are taken and given back."""

    def __init__(self, vcpu: Vcpu) -> None:
        self._native = vcpu.native
        self._taken: dict[int, tuple[CData, int]] = {}  # reason: C's finisher, how many have taken it

    def take(self, reason: int) -> None:
        """Exits for this reason (KVM's number) come to Python from now on."""
        finisher, takers = self._taken.get(reason, (self._native.finish[reason], 0))
        self._taken[reason] = finisher, takers + 1
        self._native.finish[reason] = ffi.NULL

    def give_back(self, reason: int) -> None:
        finisher, takers = self._taken.pop(reason)
        if takers > 1:
            self._taken[reason] = finisher, takers - 1
        else:
            self._native.finish[reason] = finisher

    def finish(self, reason: int) -> bool:
        """On the vCPU's thread: what C would have done about the exit that it is at. False: nothing, it is Python's."""
        finisher, _ = self._taken.get(reason, (ffi.NULL, 0))
        return bool(finisher) and check("finish", finisher(self._native)) > 0


_of: WeakKeyDictionary[Vcpu, Finishers] = WeakKeyDictionary()


def of(vcpu: Vcpu) -> Finishers:
    """The same for all who ask."""
    if vcpu not in _of:
        _of[vcpu] = Finishers(vcpu)
    return _of[vcpu]
