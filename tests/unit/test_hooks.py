"""Hooks of a machine over invented exits: no KVM needed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core.exits import Cause, GuestEnded
from corral.core.hooks import EVERY_REASON, Hook, Hooks
from corral.core.vcpu_thread import VcpuThread
from corral.native import Event, ffi, lib


class FakeVcpu:
    def __init__(self) -> None:
        self.native = ffi.new("struct corral_vcpu *")
        self.run_page = ffi.new("struct kvm_run *")

    def finish(self) -> bool:
        return False


class FakeThread:
    """What hooks need of a VcpuThread."""

    def __init__(self, index: int, log: list[str]) -> None:
        self.index, self.vcpu, self._log = index, FakeVcpu(), log
        self.hooks: Hooks
        self.paused = 0
        self.fails: Exception | None = None

    def request_pause(self) -> None:
        self.paused += 1

    def handle_exit(self) -> None:
        if self.fails:
            raise self.fails
        self._log.append("handled")


class Scripted(Hook):
    """Notes its calls; does what `then` says at each of them."""

    def __init__(self, name: str, log: list[str], then: Callable[[str], object] = lambda call: None) -> None:
        self.name, self._log, self.then = name, log, then

    def _note(self, call: str) -> object:
        self._log.append(f"{self.name} {call}")
        return self.then(call)

    def take(self, thread: VcpuThread) -> bool:
        return self._note("take") is True

    def see(self, thread: VcpuThread) -> Callable[[], object] | None:
        self._note("see")
        return lambda: self._note("after")

    def ended(self, thread: VcpuThread) -> None:
        self._note("ended")


class Bench:
    """Hooks of a machine with `cpus` invented vCPUs."""

    def __init__(self, cpus: int = 1) -> None:
        self.log: list[str] = []
        self.threads = [FakeThread(index, self.log) for index in range(cpus)]
        self.waiter = Event()
        self.hooks = Hooks(cast(list[VcpuThread], self.threads), [self.waiter])

    def hook(self, name: str, then: Callable[[str], object] = lambda call: None) -> Scripted:
        hook = Scripted(name, self.log, then)
        self.hooks.attach(hook)
        return hook

    def exit(self, vcpu: int = 0) -> list[str]:
        """What is called at one exit."""
        self.log.clear()
        self.hooks.dispatch(cast(VcpuThread, self.threads[vcpu]))
        return self.log

    def hooked(self) -> set[int]:
        return {int(thread.vcpu.native.hooked) for thread in self.threads}


def test_hooks_are_called_in_order_around_the_handling_of_an_exit() -> None:
    bench = Bench()
    bench.hook("a")
    bench.hook("b")
    assert bench.exit() == ["a take", "b take", "a see", "b see", "handled", "a after", "b after"]


def test_an_exit_of_a_hooks_own_making_is_nobody_elses() -> None:
    bench = Bench()
    bench.hook("a")
    bench.hook("b", lambda call: call == "take")
    bench.hook("c")
    assert bench.exit() == ["a take", "b take"]


def test_a_guest_that_ends_at_an_exit_ends_with_hooks_too() -> None:
    bench = Bench()
    bench.hook("a")
    bench.threads[0].fails = GuestEnded(Cause.RESET)
    with pytest.raises(GuestEnded):
        bench.exit()
    assert bench.log == ["a take", "a see"]
    assert bench.hooks.attached
    assert not bench.hooks.failures


@pytest.mark.parametrize("call", ["take", "see", "after", "ended"])
@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_hook_that_fails_is_removed_and_told_of_and_the_guest_is_paused(
    call: str, error: type[BaseException]
) -> None:
    def fail(at: str) -> None:
        if at == call:
            raise error("of the hook")

    bench = Bench(cpus=2)
    broken = bench.hook("broken", fail)
    other = bench.hook("other")
    if call == "ended":
        bench.hooks.ended(cast(VcpuThread, bench.threads[0]))
        assert bench.log == ["broken ended", "other ended"]
    else:
        seen = bench.exit()
        assert [step for step in seen if "broken" not in step] == ["other take", "other see", "handled", "other after"]
        assert seen.index(f"broken {call}") == max(at for at, step in enumerate(seen) if "broken" in step)
    assert bench.hooks.attached == (other,)
    assert [thread.paused for thread in bench.threads] == [1, 1]
    assert os.eventfd_read(bench.waiter.value) == 1
    with pytest.raises(error) as caught:
        bench.hooks.raise_failure()
    (note,) = caught.value.__notes__
    assert note.startswith(f"the hook 'broken' failed on vCPU 0 ({error.__name__}: of the hook); it is removed")
    bench.hooks.raise_failure()  # once
    assert broken not in bench.hooks.attached


def test_the_exit_of_a_debugger_that_fails_is_not_the_guests() -> None:
    def fail(call: str) -> None:
        raise ValueError("of the debugger")

    bench = Bench()
    bench.threads[0].vcpu.run_page.exit_reason = lib.KVM_EXIT_DEBUG
    bench.hook("debugger", fail)
    bench.hook("other")
    assert bench.exit() == ["debugger take", "other take"]
    assert len(bench.hooks.failures) == 1


def test_a_debugger_gets_its_exit_when_another_hook_is_detached_at_that_moment() -> None:
    bench = Bench()
    bench.threads[0].vcpu.run_page.exit_reason = lib.KVM_EXIT_DEBUG
    bench.hook("first", lambda call: [bench.hooks.detach(second)])
    second = bench.hook("second")
    bench.hook("debugger", lambda call: call == "take")
    assert bench.exit() == ["first take", "debugger take"]
    assert not bench.hooks.failures


def test_what_hooks_want_of_c_is_the_sum_on_every_vcpu_and_nothing_without_a_hook() -> None:
    bench = Bench(cpus=3)
    assert bench.hooked() == {0}
    one, all_of_them = Hook(), Hook()
    one.reasons, all_of_them.reasons = 1 << lib.KVM_EXIT_IO, EVERY_REASON
    bench.hooks.attach(one)
    assert bench.hooked() == {1 << lib.KVM_EXIT_IO | lib.CORRAL_ANY_HOOK}
    bench.hooks.attach(all_of_them)
    assert bench.hooked() == {EVERY_REASON}
    bench.hooks.detach(all_of_them)
    one.reasons = 0
    bench.hooks.update()
    assert bench.hooked() == {lib.CORRAL_ANY_HOOK}
    bench.hooks.detach(one)
    assert bench.hooked() == {0}


# A plan: for each call of a hook, what is done to which hook.
NAMES = "abcd"
DEEDS = st.tuples(st.sampled_from(["attach", "detach", "fail"]), st.sampled_from(NAMES))
CALLS = st.tuples(st.sampled_from(NAMES), st.sampled_from(["take", "see", "after"]))
PLANS = st.dictionaries(CALLS, st.lists(DEEDS, max_size=3), max_size=6)
STEPS = st.lists(st.one_of(DEEDS.filter(lambda deed: deed[0] != "fail"), st.none()), max_size=12)


@given(plan=PLANS, steps=STEPS)
def test_any_sequence_of_attaching_detaching_and_failing(
    plan: dict[tuple[str, str], list[tuple[str, str]]], steps: list[tuple[str, str] | None]
) -> None:
    """A model of which hooks are attached, changed from outside and from inside hooks: the list is always the model's,
    in order; no hook is called while it is detached; each exit is handled once, whatever hooks do."""
    bench = Bench(cpus=2)
    model: list[str] = []
    failed: list[str] = []

    def change(deed: str, name: str) -> None:
        if deed == "attach":
            bench.hooks.attach(hooks[name])
            if name not in model:
                model.append(name)
        else:
            assert bench.hooks.detach(hooks[name]) == (name in model)
            if name in model:
                model.remove(name)

    def called(name: str, call: str) -> None:
        assert name in model, f"{name} is called and is not attached"
        for deed, other in plan.get((name, call), ()):
            if deed == "fail":
                if name in model:
                    model.remove(name)
                failed.append(name)
                raise ValueError(name)
            change(deed, other)

    def then_of(name: str) -> Callable[[str], object]:
        return lambda call: called(name, call)

    hooks = {name: Scripted(name, bench.log, then_of(name)) for name in NAMES}
    for step in steps:
        if step is None:
            assert bench.exit().count("handled") == 1
        else:
            change(*step)
        assert [hook.name for hook in bench.hooks.attached] == model
        assert bench.hooked() == ({lib.CORRAL_ANY_HOOK} if model else {0})
    assert [failure.hook for failure in bench.hooks.failures] == failed


def test_attached_and_detached_by_many_threads_while_vcpus_exit() -> None:
    bench = Bench(cpus=2)
    over = threading.Event()
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    def change(name: str) -> None:
        for _ in range(300):
            hook = bench.hook(name)
            assert hook in bench.hooks.attached
            assert bench.hooks.detach(hook)
            assert hook not in bench.hooks.attached

    def run(vcpu: int) -> None:
        while not over.is_set():
            bench.hooks.dispatch(cast(VcpuThread, bench.threads[vcpu]))
            bench.log.clear()

    vcpus = [threading.Thread(target=guarded, args=(lambda vcpu=vcpu: run(vcpu),)) for vcpu in (0, 1)]
    changers = [threading.Thread(target=guarded, args=(lambda name=name: change(name),)) for name in NAMES]
    for thread in (*vcpus, *changers):
        thread.start()
    for thread in changers:
        thread.join()
    over.set()
    for thread in vcpus:
        thread.join()
    assert errors == []
    assert bench.hooks.attached == ()
    assert bench.hooked() == {0}
