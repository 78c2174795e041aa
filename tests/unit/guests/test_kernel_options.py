"""The small kernel's configuration: a source that does not take it is refused before minutes are spent on it."""

from __future__ import annotations

import os

import pytest

from corral.errors import HostError
from corral.guests import kernel, sources

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
    kernel.require_options(FRAGMENT, configuration)


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
        kernel.require_options(FRAGMENT, configuration)
    assert f"does not take {lost};" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_later_fragment_wins() -> None:
    both = FRAGMENT + "CONFIG_SYSFS=y\n"
    kernel.require_options(both, 'CONFIG_TTY=y\nCONFIG_HOSTNAME="corral"\nCONFIG_SYSFS=y\n')
    with pytest.raises(HostError, match="CONFIG_SYSFS=y"):
        kernel.require_options(both, 'CONFIG_TTY=y\nCONFIG_HOSTNAME="corral"\n')


@pytest.mark.parametrize("name", kernel.VARIANTS)
def test_fragments_have_nothing_but_options_and_comments(name: str) -> None:
    for fragment in kernel.VARIANTS[name]:
        with open(os.path.join(sources.folder("linux"), fragment)) as file:
            for line in file.read().splitlines():
                assert not line or line.startswith(("CONFIG_", "#")), line
                if " is not set" in line:
                    assert line.startswith("# CONFIG_"), line


def test_each_cpu_count_has_its_variant() -> None:
    assert kernel.variant(1) == "small"
    assert {kernel.variant(cpus) for cpus in range(2, 65)} == {"small-smp"}
