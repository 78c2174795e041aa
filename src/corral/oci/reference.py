"""Names of container images, as people write them.

A name without a transport is a registry's, as Docker reads it: python:3.12 is docker.io/library/python:3.12. A path
that begins with / or . is a folder with a root file system. The others are as skopeo has them
(containers-transports(5)).

Source: distribution/reference, "Grammar"; OCI distribution-spec.
"""

from __future__ import annotations

import os
import re

from corral.errors import ConfigError
from corral.files.file import printable
from corral.startup.record import record

REGISTRY, FOLDER, LAYOUT = "docker", "dir", "oci"
ARCHIVES = ("oci-archive", "docker-archive")
STORES = ("containers-storage", "docker-daemon")
TRANSPORTS = (LAYOUT, *ARCHIVES, *STORES)
_DEFAULT_HOST, _DEFAULT_FOLDER, _DEFAULT_TAG = "docker.io", "library/", "latest"
_LONGEST = 1024
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_PATH = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@record(frozen=True)
class Reference:
    """`name` is the whole of it, and the same for all ways to write it. `place` is a path, or what a store calls the
    image; of a registry its host and path. `tag` and `digest` are "" where there is none."""

    name: str
    transport: str
    place: str
    tag: str = ""
    digest: str = ""

    @property
    def is_local(self) -> bool:
        return self.transport != REGISTRY

    @property
    def host(self) -> str:
        return self.place.partition("/")[0]


def parse(text: str) -> Reference:
    """Raises ConfigError."""
    if not text or len(text) > _LONGEST or not text.isprintable():
        raise _bad(text, "that is empty, too long, or has characters that cannot be shown")
    if text.startswith(("/", "./", "../")) or text in (".", ".."):
        return _path(text)
    transport, colon, rest = text.partition(":")
    if transport == REGISTRY and rest.startswith("//"):
        return _registry(rest.removeprefix("//"))
    if not colon or transport not in TRANSPORTS:
        if transport in (FOLDER, "docker") and rest.startswith("/"):
            raise _bad(
                text, f"name a folder by its path alone, and a registry's image as docker://IMAGE; not {transport}:"
            )
        return _registry(text)
    if not rest:
        raise _bad(text, f"something has to follow {transport}:")
    if transport in STORES:
        return Reference(f"{transport}:{rest}", transport, rest)
    path, tag = _with_tag(rest)
    whole = os.path.abspath(path)
    return Reference(f"{transport}:{whole}" + (f":{tag}" if tag else ""), transport, whole, tag)


def _path(text: str) -> Reference:
    whole = os.path.abspath(text)
    if os.path.isdir(whole) or not os.path.exists(whole):
        return Reference(whole, FOLDER, whole)
    raise ConfigError(
        f"{printable(text)} is a file: name an image in it as docker-archive:{printable(text)} or "
        f"oci-archive:{printable(text)}, and the files of a system as a folder"
    )


def _with_tag(rest: str) -> tuple[str, str]:
    """A path, and the tag behind it, which may have colons itself, as may a path that exists."""
    ends = [at for at, letter in enumerate(rest) if letter == ":"]
    for end in (len(rest), *reversed(ends)):
        if os.path.exists(rest[:end]):
            return rest[:end], rest[end + 1 :]
    path, _, tag = rest.partition(":")
    return path, tag


def _registry(text: str) -> Reference:
    name, at, digest = text.partition("@")
    if at and not DIGEST.fullmatch(digest):
        raise _bad(text, "a digest is sha256: and 64 digits of 0 to 9 and a to f")
    first, slash, path = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        first, path = _DEFAULT_HOST, name if slash else _DEFAULT_FOLDER + name
    if first == "index.docker.io":
        first = _DEFAULT_HOST
    if first == _DEFAULT_HOST and "/" not in path:
        path = _DEFAULT_FOLDER + path
    path, colon, tag = path.partition(":")
    if not _HOST.fullmatch(first):
        raise _bad(text, f"{printable(first)} is not the name of a registry")
    if not _PATH.fullmatch(path):
        cure = "; write it in small letters" if _PATH.fullmatch(path.lower()) else ""
        raise _bad(text, f"{printable(path)!r} is not the name of an image{cure}")
    if colon and not _TAG.fullmatch(tag):
        raise _bad(text, f"{printable(tag)!r} is not a tag")
    if not colon and not at:
        tag = _DEFAULT_TAG
    place = f"{first}/{path}"
    whole = place + (f":{tag}" if tag else "") + (f"@{digest}" if at else "")
    return Reference(whole, REGISTRY, place, tag, digest)


def _bad(text: str, why: str) -> ConfigError:
    shown = printable(text if len(text) <= 100 else text[:100] + "...")
    return ConfigError(
        f"{shown!r} is not the name of an image: {why}; "
        "write it like python:3.12, ghcr.io/x/y@sha256:..., oci:DIR:TAG, docker-archive:FILE or ./FOLDER"
    )
