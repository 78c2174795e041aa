"""Releases of distributions: names, to tell one that is written wrong from one that the host's sources do not have; and
which one a kernel or a host is of."""

from __future__ import annotations

from corral.errors import ConfigError

KNOWN = {
    "debian": ("bullseye", "bookworm", "trixie", "forky", "duke", "sid", "oldstable", "stable", "testing", "unstable"),
    "ubuntu": ("focal", "jammy", "noble", "oracular", "plucky", "questing", "resolute", "devel"),
}
# How a kernel's release tells which Debian it is from: 6.1.0-50-amd64, and since 13 6.12.43+deb13-amd64.
_DEBIAN_12 = "6.1.0-"
_DEBIAN_SINCE_13 = {"13": "trixie", "14": "forky", "15": "duke"}


def of_kernel(release: str) -> str | None:
    """The release of Debian that a kernel's own release names; None where it names none that is known."""
    if release.startswith(_DEBIAN_12):
        return "bookworm"
    return _DEBIAN_SINCE_13.get(release.partition("+deb")[2].partition("-")[0])


def of_host(family: str) -> str | None:
    """The host's own, where the host belongs to that family."""
    values = {}
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.strip().partition("=")
                values[key] = value.strip('"')
    except OSError:
        return None
    return values.get("VERSION_CODENAME") or None if values.get("ID") == family else None


def check(family: str, suite: str) -> None:
    """Raises ConfigError for what is no release's name but like one. A name that is like none may be a new one."""
    if suite in KNOWN[family]:
        return
    from difflib import get_close_matches

    near = get_close_matches(suite, KNOWN[family], 1)
    if near:
        raise ConfigError(f"{family} has no release {suite!r}; did you mean {family}:{near[0]}?")
