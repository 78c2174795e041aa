"""The small kernel's configuration: a source that does not take it is refused before minutes are spent on it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.errors import HostError
from corral.guests import kernel, kernel_options, sources

FRAGMENT = """\
# A comment.
CONFIG_TTY=y
CONFIG_HOSTNAME="corral"
# CONFIG_SYSFS is not set
"""


@pytest.mark.parametrize(
    "configuration",
    [
        'CONFIG_TTY=y\nCONFIG_HOSTNAME="corral"\n# CONFIG_SYSFS is not set\n',
        'CONFIG_MORE=y\nCONFIG_HOSTNAME="corral"\nCONFIG_TTY=y\n',  # what it does not know is off
    ],
)
def test_a_source_that_takes_all(configuration: str) -> None:
    kernel_options.require(FRAGMENT, configuration)


@pytest.mark.parametrize(
    ("configuration", "lost"),
    [
        ('# CONFIG_TTY is not set\nCONFIG_HOSTNAME="corral"\n', "CONFIG_TTY=y"),
        ('CONFIG_HOSTNAME="corral"\n', "CONFIG_TTY=y"),
        ('CONFIG_TTY=y\nCONFIG_HOSTNAME="other"\n', 'CONFIG_HOSTNAME="corral"'),
        ('CONFIG_TTY=y\nCONFIG_HOSTNAME="corral"\nCONFIG_SYSFS=y\n', "CONFIG_SYSFS=n"),
    ],
)
def test_a_source_that_does_not(configuration: str, lost: str) -> None:
    with pytest.raises(HostError) as caught:
        kernel_options.require(FRAGMENT, configuration)
    assert f"does not take {lost};" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_later_fragment_wins() -> None:
    both = FRAGMENT + "CONFIG_SYSFS=y\n"
    kernel_options.require(both, 'CONFIG_TTY=y\nCONFIG_HOSTNAME="corral"\nCONFIG_SYSFS=y\n')
    with pytest.raises(HostError, match="CONFIG_SYSFS=y"):
        kernel_options.require(both, 'CONFIG_TTY=y\nCONFIG_HOSTNAME="corral"\n')


@pytest.mark.parametrize(
    ("version", "has"),
    [
        ("6.1.192-3", "CONFIG_OLD=y\n# CONFIG_BOTH is not set\n"),
        ("6.4", "CONFIG_OLD=y\n# CONFIG_BOTH is not set\n# CONFIG_LATER is not set\n"),
        ("6.5.0", "# CONFIG_BOTH is not set\n# CONFIG_LATER is not set\n"),
        ("6.12.57+deb13-1~bpo", "# CONFIG_BOTH is not set\n# CONFIG_LATER is not set\n"),  # 12 is more than 4
        ("7.0", "# CONFIG_BOTH is not set\n# CONFIG_LATER is not set\n"),
    ],
)
def test_an_option_is_for_the_versions_that_have_it(version: str, has: str) -> None:
    text = "# Words.\nCONFIG_OLD=y  # before 6.5\n# CONFIG_BOTH is not set\n# CONFIG_LATER is not set  # from 6.4\n"
    assert kernel_options.for_version(text, version) == has


def test_versions_that_are_mistyped_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'since 6\.5'"):
        kernel_options.for_version("CONFIG_OLD=y  # since 6.5\n", "6.1")


@pytest.mark.parametrize("version", ["", "6", "6.x", "six.1"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(HostError, match="no version of Linux"):
        kernel_options.for_version("CONFIG_OLD=y  # before 6.5\n", version)


def test_a_kernel_in_the_cache_is_kept_while_its_versions_options_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sources, "folder", lambda name: str(tmp_path))
    file = tmp_path / "small.config"
    (tmp_path / "edits.toml").write_text("")
    (tmp_path / "native").mkdir()
    kernels = tmp_path / "corral" / "kernels"

    def keep(version: str) -> None:
        (kernels / f"small_{version}_{kernel.key(version)}").mkdir(parents=True)

    file.write_text("CONFIG_TTY=y\nCONFIG_SLAB=y  # before 6.5\n")
    keep("6.1.192-3")
    keep("6.12.57-1")
    for other in ("small_6.12.58-1_0123.unfinished-4", "small", "small_x", "of_somebody's", "small_x_y_z", "notes"):
        (kernels / other).mkdir()
    assert {found.version for found in kernel.ready()} == {"6.1.192-3", "6.12.57-1"}
    file.write_text("CONFIG_TTY=y\nCONFIG_SLAB=y  # before 6.5\nCONFIG_BASE_SMALL=y  # from 6.10\n")
    assert [found.version for found in kernel.ready()] == ["6.1.192-3"]


def test_the_file_has_nothing_but_options_and_comments() -> None:
    with open(os.path.join(sources.folder("linux"), "small.config")) as file:
        for line in file.read().splitlines():
            assert not line or line.startswith(("CONFIG_", "#")), line
            option, _, versions = line.partition("  # ")
            assert versions or " # " not in line, line
            if " is not set" in line:
                assert option.startswith("# CONFIG_"), line
                assert option.endswith(" is not set"), line
