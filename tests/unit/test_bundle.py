"""The bundle of bytecode: used when it is there, not believed when it is old, never in the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import corral

MAIN = """
import sys
from corral.startup import bundle
sys.modules["typing.io"] = object()  # no module, as in some versions of Python
bundle.use()
from corral import config, errors
print(type(config.__loader__).__name__, getattr(errors, "MARK", "-"))
bundle.keep()
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    source = Path(corral.__file__).parent
    shutil.copytree(source, tmp_path / "corral", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "corral"


def run(package: Path, *flags: str, prefix: Path | None = None) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if prefix:
        environment["PYTHONPYCACHEPREFIX"] = str(prefix)
    command = [sys.executable, *flags, "-c", MAIN]
    done = subprocess.run(command, cwd=package.parent, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def bundle_of(package: Path) -> Path:
    return package / "__pycache__" / f"bundle.{sys.implementation.cache_tag}"


def test_the_first_run_makes_it_and_the_second_uses_it(package: Path) -> None:
    assert run(package) == ["SourceFileLoader", "-"]
    assert bundle_of(package).exists()
    before = bundle_of(package).stat().st_mtime_ns
    assert run(package) == ["Bundle", "-"]
    assert bundle_of(package).stat().st_mtime_ns == before


def test_a_changed_source_is_read_again_and_replaces_what_was_kept(package: Path) -> None:
    run(package)
    with (package / "errors.py").open("a") as file:
        file.write("\nMARK = 'changed'\n")
    assert run(package) == ["Bundle", "changed"]
    assert run(package) == ["Bundle", "changed"]


@pytest.mark.parametrize("content", [b"", b"no bundle", None])
def test_one_that_cannot_be_read_is_made_anew(package: Path, content: bytes | None) -> None:
    run(package)
    whole = bundle_of(package).read_bytes()
    bundle_of(package).write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert run(package) == ["SourceFileLoader", "-"]
    assert run(package) == ["Bundle", "-"]


def test_nothing_is_left_behind_where_it_cannot_be_written(package: Path) -> None:
    bundle_of(package).mkdir(parents=True)
    assert run(package) == ["SourceFileLoader", "-"]
    assert [path.name for path in bundle_of(package).parent.glob("bundle*.[0-9]*")] == []


def test_it_lies_where_python_is_told_to_keep_bytecode(package: Path, tmp_path: Path) -> None:
    assert run(package, prefix=tmp_path / "bytecode") == ["SourceFileLoader", "-"]
    assert run(package, prefix=tmp_path / "bytecode") == ["Bundle", "-"]
    assert [path.name for path in (tmp_path / "bytecode").rglob("bundle*") if path.suffix != ".pyc"] == [
        bundle_of(package).name
    ]
    assert not bundle_of(package).exists()


def test_it_stays_out_where_python_keeps_no_bytecode(package: Path) -> None:
    assert run(package, "-B") == ["SourceFileLoader", "-"]
    assert not bundle_of(package).exists()


TOGETHER = """
import json, sys
from corral.startup import bundle
bundle.use()
before = set(sys.modules)
try:
    module = bundle.imported("corral.config")
    failed = ""
except ImportError as error:
    failed = str(error)
names = sorted(name for name in set(sys.modules) - before if name.startswith("corral."))
about = {
    name: [str(getattr(sys.modules[name], key, None)) for key in ("__file__", "__package__", "__path__", "__doc__")]
    + [sorted(vars(sys.modules[name]).keys() - {"__cached__"}), sys.modules[name].__spec__.name]
    for name in names
}
children = [name for name in names if getattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], 0)]
print(json.dumps([failed, about, children == names, not failed and module is sys.modules["corral.config"]]))
if not failed:
    print(json.dumps(bundle._used._orders.get("corral.config", [])))
    bundle.keep()
"""


def together(package: Path) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-c", TOGETHER]
    done = subprocess.run(command, cwd=package.parent, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_what_comes_with_a_module_is_run_in_order_and_is_the_same(package: Path) -> None:
    first, second, third = (together(package) for _ in range(3))
    assert (first[1], second[1]) == ("[]", "[]")
    order = json.loads(third[1])
    assert order[-1] == "corral.config"
    assert set(order) == set(json.loads(third[0])[1])
    assert json.loads(second[0]) == json.loads(third[0])
    assert json.loads(third[0])[0::2] + json.loads(third[0])[3:] == ["", True, True]


def test_an_order_is_not_used_for_a_source_that_has_changed(package: Path) -> None:
    for _ in range(3):
        together(package)
    with (package / "memory.py").open("a") as file:
        file.write("\nfrom corral import spelling\n")
    for _ in range(3):
        told = together(package)
        assert "corral.spelling" in json.loads(told[0])[1]
    assert "corral.spelling" in json.loads(told[1])


def test_a_module_that_fails_is_not_left_half_imported(package: Path) -> None:
    with (package / "memory.py").open("a") as file:
        file.write("\nimport os\nif 'FAILS' in os.environ:\n    raise ImportError('on purpose')\n")
    whole = [json.loads(together(package)[0])[1] for _ in range(3)][-1]
    os.environ["FAILS"] = "1"
    try:
        failed, about, _, _ = json.loads(together(package)[0])
    finally:
        del os.environ["FAILS"]
    assert failed == "on purpose"
    assert "corral.memory" not in about
    assert "corral.config" not in about
    assert about.keys() < whole.keys()
