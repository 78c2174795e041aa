"""A distribution's release by the host's package sources: which lines for sources.list, and apt's options for it."""

from __future__ import annotations

import os
import shutil

from corral.errors import ConfigError, HostError
from corral.guests import cache, debian, releases
from corral.startup.record import record

_NO_RELEASE = "does not have a Release file"  # as apt says it, in the C locale
_UPDATES = ("", "-updates", "-security")
_TARGETS = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(ORIGIN)", "Created-By: Packages"]
# What a host says of fetching, and an apt that does not read the host's configuration must be told.
_FETCHING = ("Acquire::Check-Valid-Until ", "Acquire::Check-Date ", "Acquire::http::Proxy ", "Acquire::https::Proxy ")


@record(frozen=True)
class Suite:
    """`sources` are lines of a sources.list; `options` make apt look there, () where it does by itself."""

    sources: tuple[str, ...]
    options: tuple[str, ...] = ()


def find(family: str, suite: str) -> Suite:
    """The release `suite` ("trixie") of `family` ("debian"). Raises HostError where the host's sources lead nowhere
    near it, or do not have it."""
    known = [line.split(" ", 2) for line in debian.output(_TARGETS, f"of {family}").splitlines()]
    ours = [(uri, codename) for uri, codename, origin in known if origin.strip().lower() == family]
    if not ours:
        raise HostError(f"this host's package sources have nothing of {family}; add its archive to them")
    own = {codename: uri for uri, codename in ours if codename in [suite + update for update in _UPDATES]}
    if suite in own:
        return Suite(tuple(f"deb {uri} {codename} main" for codename, uri in own.items()))
    archive = next(uri for uri, codename in ours if "-" not in codename)
    return _foreign_suite(family, suite, f"deb {archive} {suite} main")


def of_kernel(release: str) -> tuple[str, ...]:
    """apt's options for the packages of a kernel, by its own word of which Debian it is from. Raises HostError."""
    suite = releases.of_kernel(release)
    return () if suite in (None, releases.of_host("debian")) else find("debian", suite).options


def _foreign_suite(family: str, suite: str, line: str) -> Suite:
    """A release that the host does not use, from the archive that it does: apt gets a state of its own in the cache."""
    home = cache.folder("apt", f"{family}-{suite}")
    for part in ("lists/partial", "archives/partial"):
        os.makedirs(os.path.join(home, part), exist_ok=True)
    listed = os.path.join(home, "sources.list")
    with open(listed, "w", encoding="ascii") as file:
        file.write(f"{line}\n")
    settings = {
        "Dir::Etc::sourcelist": listed,
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": os.path.join(home, "lists"),
        "Dir::Cache": home,
        "Dir::State::status": os.devnull,
        "Dir::Etc::preferencesparts": "-",
    }
    options = tuple(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))
    command = ["apt-get", *options, "-o", "APT::Update::Error-Mode=any", "--quiet=2", "update"]
    try:
        debian.output(command, f"the release {suite} of {family} from this host's package sources")
    except debian.AptError as error:
        shutil.rmtree(home)
        if _NO_RELEASE not in error.said or suite in releases.KNOWN[family]:
            raise
        known = ", ".join(f"{family}:{name}" for name in releases.KNOWN[family])
        archive = line.split(" ")[1]
        raise ConfigError(f"{archive} has no release {suite!r}; those that Corral knows of are {known}") from None
    return Suite((line,), options)


def fetching() -> list[str]:
    """Lines of the host's apt.conf for an apt that reads another: proxies, and dates that are not to be checked."""
    lines = debian.output(["apt-config", "dump"], "its configuration").splitlines()
    return [line for line in lines if line.startswith(_FETCHING)]
