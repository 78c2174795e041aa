"""Well-known tools: what is read of their answers, and that they run wherever a contender runs them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.compare import tools
from corral.compare.contenders.base import Job, Kit, Unsuitable
from corral.compare.contenders.bubblewrap import Bubblewrap
from corral.compare.contenders.native import Native
from corral.compare.contenders.qemu import Q35
from corral.compare.contenders.runc import Runc
from corral.compare.measures.base import Cpus
from corral.compare.measures.tool import ToolMeasure
from corral.compare.processes import Failed

TOOLS = {tool.name: tool for tool in tools.ALL}


def fio(reads: int, **side: Any) -> str:
    other = {"total_ios": 0, "iops": 0, "clat_ns": {"percentile": {}}}
    this = {"total_ios": 7, "iops": 1234.5, "clat_ns": {"percentile": {"99.000000": 5600}}} | side
    return "fio: a warning\n" + json.dumps({"jobs": [{"read": this if reads else other, "write": this}]}) + "\nbye\n"


@pytest.mark.parametrize("reads", [0, 1])
def test_fios_answer(reads: int) -> None:
    assert tools.of_fio(fio(reads)) == {"requests": (1234.5, "1/s"), "latency-p99": (5.6, "us")}


@pytest.mark.parametrize(
    "said", ["", "}{", "{}", '{"jobs": []}', '{"jobs": 3}', fio(1, clat_ns=3), fio(1, iops="many")]
)
def test_what_fio_does_not_answer(said: str) -> None:
    with pytest.raises(Failed):
        tools.of_fio(said)


def test_the_others_answers() -> None:
    assert TOOLS["sysbench-cpu"].read("\n    events per second:  4157.25\n") == {"events": (4157.25, "1/s")}
    line = "102400.00 MiB transferred (6509.12 MiB/sec)"
    assert TOOLS["sysbench-memory"].read(line) == {"bandwidth": (6509.12, "MiB/s")}
    line = "      bogo-ops-per-second-real-time: 4769.586075"
    assert TOOLS["stress-ng-matrix"].read(line) == {"operations": (4769.586075, "1/s")}
    for name in ("sysbench-cpu", "sysbench-memory", "stress-ng-matrix"):
        with pytest.raises(Failed, match="in what it printed"):
            TOOLS[name].read("segmentation fault")


@given(st.text())
def test_any_answer(said: str) -> None:
    """It comes from a guest."""
    for tool in tools.ALL:
        with pytest.raises(Failed):
            tool.read(said)


def place(folder: Path) -> Cpus:
    return Cpus((), (), folder)


def test_a_tool_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsuitable, match="apt-get install stress-ng"):
        ToolMeasure(TOOLS["stress-ng-matrix"]).take(Native(Kit(tmp_path, 0)), place(tmp_path))


def test_a_root_has_the_libraries(tmp_path: Path) -> None:
    program = Path(shutil.which("gcc") or "/usr/bin/gcc")
    tools.root(program, tmp_path / "root")
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = [word for word in linked.split() if word.startswith("/")]
    assert libraries
    for path in [str(program), *libraries]:
        assert (tmp_path / "root" / path.lstrip("/")).read_bytes() == Path(path).read_bytes()
    with pytest.raises(Failed, match="ldd"):
        tools.root(tmp_path / "none", tmp_path / "other")


def test_each_contender_runs_it_in_that_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    tools.root(Path("/usr/bin/env"), root)
    job = Job(Path("/usr/bin/env"), ("{scratch}", "a b"), scratch=tmp_path / "disk", root=root, memory=256 << 20)
    kit = Kit(tmp_path, 64 << 20)
    assert Native(kit).launch(job).argv == ["/usr/bin/env", str(tmp_path / "disk"), "a b"]
    wrapped = Bubblewrap(kit).launch(job).argv
    assert wrapped[-3:] == ["/usr/bin/env", "/scratch", "a b"]
    assert wrapped[wrapped.index("--ro-bind") + 1 :][:2] == [str(root), "/"]
    bundle = Path(Runc(kit).launch(job).argv[5])
    configuration = json.loads((bundle / "config.json").read_text())
    assert configuration["root"]["path"] == str(root)
    assert configuration["process"]["args"] == ["/usr/bin/env", "/scratch", "a b"]
    with pytest.raises(Unsuitable, match="no PCI"):
        Q35(kit).launch(job)


def test_a_guest_has_it_on_its_first_disk(tmp_path: Path) -> None:
    """Seen with no guest: the words for its shell, and an image beside it."""
    from corral.compare.contenders import guest

    root = tmp_path / "root"
    tools.root(Path("/usr/bin/env"), root)
    job = Job(Path("/usr/bin/env"), ("{scratch}", "a b"), scratch=tmp_path / "disk", root=root)
    (line,) = guest.command(job)
    assert line.endswith("exec chroot /disk /usr/bin/env /dev/vdb 'a b'")
    kit = Kit(tmp_path, 64 << 20)
    image = guest.root_disk(kit, root)
    assert image.stat().st_size > 1 << 20
    assert guest.root_disk(kit, root) == image


def test_what_a_tool_says_here(tmp_path: Path) -> None:
    found = ToolMeasure(TOOLS["stress-ng-matrix"]).take(Native(Kit(tmp_path, 0)), place(tmp_path))
    assert found["operations"][0] > 1
