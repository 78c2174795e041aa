"""Reports about guests that died: one of each cause that can be had here, and guests that lie."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral import Machine, MachineConfig
from corral.cli import main
from corral.core.exits import Cause, Outcome, Over
from corral.debug.report import cause, full, parts, remains, screen
from corral.debug.report.guest import DeadGuest
from corral.errors import KvmError
from corral.guests import kernel
from tests.support.tiny_guests import tiny_guest

LONG = 300.0  # seconds: nothing takes so long unless it hangs


def machine(name: str, cpus: int = 1) -> Machine:
    return Machine(MachineConfig(kernel=str(tiny_guest(name)), memory=16 << 20, cpus=cpus))


def test_a_triple_fault_in_full(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report"
    assert main(["boot", "--report", str(path), str(tiny_guest("triple_fault"))]) == 4
    told, whole = capfd.readouterr().err, path.read_text()
    assert told.startswith("corral: the guest died: triple fault, on vCPU 0\nAn exception could not be delivered")
    assert told.endswith(f"corral: {path} has the whole of it\n")
    for title in (
        "Registers",
        "Code",
        "Stack",
        "Page walks",
        "Interrupt table",
        "The last 100 exits",
        "The last it said",
    ):
        assert f"\n{title}\n{'-' * len(title)}\n" in whole
    assert "SHUTDOWN at" in whole
    assert "This KVM shows the registers of the reset" in whole or (
        "has no interrupt table" in whole
        and "beyond the limit of the interrupt table" in whole
        and "_start+0xb" in whole
    )


def test_a_panic_on_the_console(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report"
    small = kernel.get("small").path
    assert main(["boot", "--report", str(path), small, "--initrd", "none", "--timeout", "280"]) == 4
    told, whole = capfd.readouterr().err, path.read_text()
    report = told[told.index("corral: the guest died") :].splitlines()
    assert report[0].startswith("corral: the guest died: Linux panicked: VFS: Unable to mount root fs on unknown-block")
    assert report[1].startswith("It found no root file system: name a disk")
    assert report.index("Its registers, of the reset after the panic:") > 1
    assert not any(line.startswith("->") for line in report)  # the code of the reset tells nothing
    assert "panic+0x" in whole  # on its stack
    assert " IO out 0x3f8 = " in whole
    assert sum(", by " in line and " ms  vcpu" in line for line in whole.splitlines()) == 100


def test_a_guest_that_ends_well_leaves_none(tmp_path: Path) -> None:
    path = tmp_path / "report"
    assert main(["boot", "--report", str(path), "--", "true"]) == 0
    assert not path.exists()


def test_a_reset_that_nobody_explains(tmp_path: Path) -> None:
    path = tmp_path / "report"
    assert main(["boot", "--report", str(path), str(tiny_guest("reset"))]) == 0
    assert "said nothing of why" in path.read_text()


@pytest.mark.parametrize("where", ["/nowhere/report", "."])
def test_a_report_that_cannot_be_written_is_told_of_first(where: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["boot", "--report", where, str(tiny_guest("hello"))]) == 2
    assert capfd.readouterr() == (
        "",
        f"corral: --report: cannot write {where!r}; name a file in a folder that you may write to\n",
    )


def test_of_a_script_machine_that_is_paused_or_over() -> None:
    with machine("vector", cpus=2) as vm:
        # A line of it may come too late: it ends soon. LIDT is an exit on a KVM that interprets.
        vm.run_until(exit=lambda exit: exit.reason != "DEBUG", timeout=LONG)
        text = vm.report()
        assert text.startswith("a guest that is paused, vCPU 0\n")
        assert "CPL 0, 64-bit" in text
        assert "  PML4 at " in text
        assert "\nvCPU 1\n------\n" in text
    with machine("triple_fault") as vm:
        vm.wait(LONG)
        assert vm.report().startswith("the guest ended: triple fault\n")


@pytest.mark.parametrize("died", [each for each in Cause if not each.clean])
def test_every_cause_is_explained(died: Cause) -> None:
    with machine("spin") as vm:
        vm.run_until("r", LONG)
        text = screen.text(remains.of(vm), Outcome(Over.ENDED, died, "detail"), b"last\x1b[2Jwords\n", shown=False)
    assert text.splitlines()[0] == f"corral: the guest died: {died.value} (detail), on vCPU 0"
    assert len(text.splitlines()) < 30
    assert "  last.[2Jwords" in text


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        (b"Attempted to kill init! exitcode=0x00000100", "Its init ended"),
        (b"Out of memory and no killable processes...", "ran out of memory"),
        (b"No working init found.", "no program to start"),
        (b"Requested init /bin/nothing failed (error -2).", "no program to start"),
        (b"VFS: Unable to mount root fs on unknown-block(0,0)", "no root file system"),
        (b"\x1b]0;x\x07 bad", None),
    ],
)
def test_panics(said: bytes, hint: str | None) -> None:
    console = b"x\r\n[    1.0] Kernel panic - not syncing: " + said + b"\r\nCPU: 0\r\n"
    told = cause.panic(console)
    assert told is not None
    assert told.isprintable()
    assert cause.panic(b"all is well") is None
    with machine("spin") as vm:
        sentences = cause.likely(DeadGuest(remains.of(vm), 0), Cause.RESET, console)
    assert (len(sentences) == 2 and hint in sentences[1]) if hint else len(sentences) == 1


@settings(
    max_examples=settings().max_examples * 6 // 10,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(data=st.data())
def test_no_guest_makes_a_report_fail(data: st.DataObject) -> None:
    anywhere = st.one_of(
        st.integers(0, (1 << 64) - 1),
        st.integers(0, 16 << 20),
        st.sampled_from([0, (1 << 64) - 1, 1 << 47, (16 << 20) - 3]),
    )
    with machine("vector") as vm:
        vm.run_until("\n", LONG)
        tables = [step.gpa & ~4095 for step in vm.mem.walk(vm.regs.rip)]
        for _ in range(data.draw(st.integers(0, 4))):
            place = data.draw(st.sampled_from(tables)) + 8 * data.draw(st.integers(0, 511))
            vm.phys[place : place + 8] = struct.pack(
                "<Q", data.draw(anywhere) | data.draw(st.sampled_from([0, 1, 0x83]))
            )
        for name in data.draw(st.lists(st.sampled_from(["rip", "rsp", "rbp", "cr2"]), unique=True)):
            setattr(vm.regs, name, data.draw(anywhere))
        try:
            vm.regs.idt.base, vm.regs.idt.limit = data.draw(anywhere), data.draw(st.integers(0, 0xFFFF))
            vm.regs.cr3 = data.draw(st.one_of(st.just(vm.regs.cr3), anywhere.map(lambda value: value & 0xFFFFFFF000)))
        except KvmError:
            pass  # this one KVM does not take
        said = data.draw(st.binary(max_size=200))
        for died in (None, *Cause):
            assert full.text(remains.of(vm), "headline", died, 0, said, []).startswith("headline\n")
            assert all(line.isprintable() for line in parts.console(said, 60))
