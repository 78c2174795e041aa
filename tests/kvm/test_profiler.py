"""The sampling profiler over a tiny guest whose time is known, and Linux, on this host's KVM."""

from __future__ import annotations

import re
import struct
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral import Machine, MachineConfig
from corral.cli import main
from corral.errors import ConfigError
from corral.kvm.system import Kind, host_kind
from corral.observe import flame
from corral.observe.profiler import HALTED, Profiler
from corral.observe.unwind import DEEPEST, Unwinder
from corral.symbols.table import Symbols
from tests.support.tiny_guests import tiny_guest

LONG = 120.0  # seconds: nothing takes so long unless it hangs


def machine(name: str = "two_places", cpus: int = 1, **defines: int) -> Machine:
    return Machine(MachineConfig(kernel=str(tiny_guest(name, **defines)), memory=16 << 20, cpus=cpus))


def test_time_goes_where_it_does() -> None:
    count = 50_000 if host_kind() is Kind.PAGETABLE else 1_000_000  # so that the exit of each turn is nothing
    with machine(COUNT=count) as vm:
        vm.run_until("r", LONG)
        with Profiler(vm, 100) as profiler:  # not often: on a busy host the guest would get nowhere between two samples
            vm.resume()
            give_up = time.monotonic() + LONG
            while profiler.profile.samples < 200 and time.monotonic() < give_up:
                time.sleep(0.1)
    own = {name: count / profiler.profile.samples for name, count, _ in profiler.profile.functions()}
    assert own["busy"] > 2 * own["idle"] > 0.2, own
    assert own["busy"] + own["idle"] > 0.8, own


def test_a_profiler_comes_and_goes_while_vcpus_run_pause_and_end() -> None:
    with machine("spin", cpus=2) as vm:
        vm.run_until("r", LONG)
        for _ in range(20):
            with Profiler(vm, 5000) as profiler:
                vm.resume()
                for _ in range(10):
                    vm.pause()
                    assert not vm.running
                    vm.resume()
        vm.pause()
    assert profiler.profile.lost == 0


def test_a_vcpu_that_halts() -> None:
    with machine("halt") as vm, Profiler(vm, 500) as profiler:
        vm.run_until(condition=lambda vm: (HALTED,) in profiler.profile.stacks, timeout=LONG)


@pytest.mark.parametrize("rate", [0, 1e6])
def test_rates_that_cannot_be(rate: float) -> None:
    with machine() as vm, pytest.raises(ConfigError, match="samples a second"):
        Profiler(vm, rate)


def test_linux(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "boot.svg"
    assert main(["profile", "--rate", "1000", "--out", str(out), "--", "boot", "--", "true"]) == 0
    told = capsys.readouterr().err
    assert int(re.search(r"(\d+) samples", told)[1]) > 20  # type: ignore[index]
    names = {box.get("data-n") for box in ET.fromstring(out.read_text()).iter() if box.get("class") == "box"}
    assert "start_kernel" in names
    assert main(["profile", "--out", "x.png", "--", "boot"]) == 2
    assert main(["profile", "--", "trace"]) == 2
    assert main(["profile", "--out", str(tmp_path / "none" / "x.svg"), "--", "boot", str(tiny_guest("reset"))]) == 2


# Stacks, invented.

TEXT = 0xFFFFFFFF81000000
SYMBOLS = Symbols([(TEXT + at, "T", name) for at, name in ((0, "outer"), (0x100, "inner"), (0x200, "end"))], "invented")
CODE = bytearray(b"\x90" * 0x300)
CODE[0x10:0x15] = b"\xe8" + struct.pack("<i", 0x100 - 0x15)  # outer calls inner
CODE[0x40:0x42] = b"\xff\xd0"  # and something through RAX
CODE[0x60:0x65] = b"\xe8" + struct.pack("<i", 0x200 - 0x65)  # and end


def read(address: int, length: int) -> bytes:
    return bytes(CODE[address - TEXT : address - TEXT + length]) if address >= TEXT else b""


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


def test_frames_are_followed_where_there_are_any() -> None:
    content = words(0, TEXT + 0x42, 0x1030, TEXT + 0x15, 5, 0x2000, 0, TEXT + 0x42)
    unwinder = Unwinder(SYMBOLS, read)
    assert unwinder.stack(TEXT + 0x110, 0x1000, 0x1010, content) == (
        [TEXT + 0x110, TEXT + 0x15, TEXT + 0x42],
        False,
    )


def test_without_frames_calls_must_fit() -> None:
    unwinder = Unwinder(SYMBOLS, read)
    # A stale one of end's, one that nothing calls before, the right one, and one through a register.
    content = words(TEXT + 0x65, TEXT + 0x80, 7, TEXT + 0x15, TEXT + 0x42)
    assert unwinder.stack(TEXT + 0x110, 0x1000, 0, content) == (
        [TEXT + 0x110, TEXT + 0x15, TEXT + 0x42],
        True,
    )


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1), st.data())
def test_any_stack(rip: int, rsp: int, rbp: int, data: st.DataObject) -> None:
    place = st.one_of(st.integers(0, (1 << 64) - 1), st.integers(TEXT, TEXT + 0x300), st.just(rsp))
    content = words(*data.draw(st.lists(place, max_size=100))) + data.draw(st.binary(max_size=7))
    found, _ = Unwinder(SYMBOLS, read).stack(rip, rsp, data.draw(st.sampled_from([rbp, rsp, rsp + 8])), content)
    assert found[0] == rip
    assert len(found) <= DEEPEST


def test_flame_graphs() -> None:
    stacks = {("a", "b<x>"): 3, ("a",): 1, ("c;d",): 4}
    assert flame.folded(stacks) == "a 1\na;b<x> 3\nc:d 4\n"
    boxes = {
        box.get("data-n"): box
        for box in ET.fromstring(flame.svg(stacks, "T & title")).iter()
        if box.get("class") == "box"
    }
    assert float(str(boxes["a"].get("data-w"))) == float(str(boxes["c;d"].get("data-w"))) == flame.WIDTH / 2
    assert float(str(boxes["b<x>"].get("data-w"))) == flame.WIDTH * 3 / 8
    assert ET.fromstring(flame.svg({}, "nothing")) is not None
