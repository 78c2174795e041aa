"""The small kernel's options: guests/linux/small.config, for the version of the source that is at hand.

A line is one of Kconfig's, or a comment. An option that not every version of Linux has ends in those that do have it:

    CONFIG_SLAB=y  # before 6.5
    CONFIG_BASE_SMALL=y  # from 6.10
"""

from __future__ import annotations

import os

from corral.errors import HostError
from corral.guests import sources

FILE = "small.config"  # of guests/linux


def fragment(version: str) -> str:
    """Kconfig's lines of guests/linux/small.config for this version of Linux, like "6.12.57-1"."""
    with open(os.path.join(sources.folder("linux"), FILE), encoding="ascii") as file:
        return for_version(file.read(), version)


def for_version(text: str, version: str) -> str:
    """The options of a file of guests/linux that this version has, as Kconfig reads them."""
    options = []
    for line in text.splitlines():
        option, _, versions = line.partition("  # ")
        is_option = option.startswith("CONFIG_") or (option.startswith("# CONFIG_") and option.endswith(" is not set"))
        if is_option and (not versions or _is_one(version, versions)):
            options.append(f"{option}\n")
    return "".join(options)


def _is_one(version: str, versions: str) -> bool:
    """Whether `version` is one of "before 6.5" or "from 6.5"."""
    word, _, edge = versions.partition(" ")
    if word not in ("before", "from"):
        raise ValueError(f"an option's versions are {versions!r}, and not `before` or `from` one")
    return is_in(version, edge, None) if word == "before" else is_in(version, None, edge)


def is_in(version: str, before: str | None, first: str | None) -> bool:
    """Whether a version like "6.12.57-1" is older than `before` and not older than `first`; None is no limit."""
    number = _number(version)
    return (before is None or number < _number(before)) and (first is None or number >= _number(first))


def is_version(text: str) -> bool:
    """Whether this is a version of Linux, like "6.12.57-1"."""
    major, minor = _words(text)
    return major.isdecimal() and minor.isdecimal()


def _number(version: str) -> tuple[int, int]:
    """(6, 12) of "6.12.57-1"."""
    if not is_version(version):
        raise HostError(f"{version!r} is no version of Linux")
    major, minor = _words(version)
    return int(major), int(minor)


def _words(version: str) -> tuple[str, str]:
    """What is before the first point, and the digits behind it."""
    major, _, rest = version.partition(".")
    return major, rest[: len(rest) - len(rest.lstrip("0123456789"))]


def require(wanted: str, configuration: str) -> None:
    """Raises HostError when `configuration`, a .config, does not have what `wanted` sets or leaves out: the source's
    own rules go first, and an option of another version may have another name."""
    have = values(configuration)
    lost = [f"{name}={value}" for name, value in values(wanted).items() if have.get(name, "n") != value]
    if lost:
        raise HostError(f"this kernel source does not take {', '.join(lost)}; guests/linux does not fit it")


def values(text: str) -> dict[str, str]:
    """Each option's value, "n" for one that is not set; the last line counts."""
    options = {}
    for line in text.splitlines():
        if line.startswith("CONFIG_"):
            name, _, value = line.partition("=")
            options[name] = value
        elif line.startswith("# CONFIG_") and line.endswith(" is not set"):
            options[line.split()[1]] = "n"
    return options
