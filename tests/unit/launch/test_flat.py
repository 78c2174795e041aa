"""Raw code takes no words, so what it would have to be told of is refused by its option, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.cli.boot import machine_config
from corral.errors import ConfigError


@pytest.fixture
def code(tmp_path: Path) -> list[str]:
    (tmp_path / "code").write_bytes(b"\xf4" * 512)
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    return [str(tmp_path / "code"), "--flat", "real@0x7c00"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--disk", "{}/disk"], "--disk: raw code .*is not told of its devices; with --acpi on .*--bios --disk"),
        (["--share", "{}"], "--share: raw code .*is not told of its devices"),
        (["--append", "a=b"], "leave --append out"),
        (["--initrd", "{}/disk"], "leave --initrd out"),
        (["--disk", "{}/disk", "--acpi", "on", "--append", "x"], "leave --append out"),
        (["--", "true"], "leave the command out"),
    ],
)
def test_what_raw_code_cannot_be_told(code: list[str], tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        machine_config([*code, *(word.format(tmp_path) for word in words)])


def test_tables_tell_it_of_a_disk(code: list[str], tmp_path: Path) -> None:
    config = machine_config([*code, "--disk", f"{tmp_path}/disk", "--acpi", "on", "--initrd", "none"])
    assert config is not None
    assert (config.cmdline, config.initrd, config.acpi, len(config.disks)) == ("", None, True, 1)
