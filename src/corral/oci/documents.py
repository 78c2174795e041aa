"""What describes a container image: indexes, manifests and configurations, in JSON that others wrote.

Docker's forms (manifest version 2, schema 2) and OCI's have the same fields. Sources: OCI image-spec, image-index.md,
manifest.md and config.md.
"""

from __future__ import annotations

import hashlib
import json

from corral.files.file import Flaw, printable
from corral.oci.reference import DIGEST
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LONGEST = 8 << 20  # bytes of a document
MOST_LAYERS = 512
_LARGEST_BLOB = 1 << 40
_MOST_OF_INDEX = 1000
_MOST_WORDS, _LONGEST_WORD = 100_000, 1 << 20
PLATFORM = ("linux", "amd64")
_AGAIN = "build or fetch the image again"


@record(frozen=True)
class Descriptor:
    """`digest` is "sha256:...", `size` in bytes."""

    digest: str
    size: int


@record(frozen=True)
class Manifest:
    config: Descriptor
    layers: tuple[Descriptor, ...]


@record(frozen=True)
class ImageConfig:
    """What an image says of how it is run. `env` has words like "PATH=/bin", `exposed_ports` like "80/tcp"; what it
    does not say is empty. No text has a NUL."""

    labels: dict[str, str]
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def require_digest(data: bytes, digest: str, what: str) -> None:
    if digest_of(data) != digest:
        raise Flaw(f"has a {what} that is not what its digest says ({digest}); {_AGAIN}")


def document(data: bytes, what: str) -> dict[str, Any]:
    """The object that it is."""
    if len(data) > LONGEST:
        raise Flaw(f"has a {what} of more than {LONGEST >> 20} MiB; {_AGAIN}")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise Flaw(f"has a {what} that is no JSON; {_AGAIN}") from None
    if not isinstance(found, dict):
        raise _odd(what)
    return found


def is_index(found: dict[str, Any]) -> bool:
    return "manifests" in found


def entries(index: dict[str, Any]) -> list[dict[str, Any]]:
    """What an index lists."""
    listed = index.get("manifests")
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise _odd("index")
    if len(listed) > _MOST_OF_INDEX:
        raise Flaw(f"has an index of {len(listed)} images, more than Corral takes; name one by its digest")
    return listed


def chosen(listed: list[dict[str, Any]]) -> Descriptor:
    """The one for this platform, of what an index lists."""
    platforms = []
    found = None
    for entry in listed:
        platform = entry.get("platform")
        if platform is None and len(listed) == 1:
            return descriptor(entry, "index")
        if not isinstance(platform, dict):
            continue
        name = (platform.get("os"), platform.get("architecture"))
        platforms.append("/".join(printable(str(part)[:20]) for part in name))
        # amd64 has variants, v2 and later, for newer CPUs: that without one is for all.
        if name == PLATFORM and (found is None or not platform.get("variant")):
            found = entry
    if found is None:
        there = f"there is {', '.join(sorted(set(platforms))[:8])}" if platforms else "it names no platform"
        raise Flaw(f"has nothing for {'/'.join(PLATFORM)}; {there}")
    return descriptor(found, "index")


def descriptor(value: Any, what: str) -> Descriptor:
    if not isinstance(value, dict):
        raise _odd(what)
    digest, size = value.get("digest"), value.get("size")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        shown = printable(str(digest)[:80])
        raise Flaw(f"has a {what} with the digest {shown}, and Corral knows only sha256; {_AGAIN}")
    if type(size) is not int or not 0 <= size <= _LARGEST_BLOB:
        raise Flaw(f"has a {what} with a size of {printable(str(size)[:30])}; {_AGAIN}")
    return Descriptor(digest, size)


def manifest(found: dict[str, Any]) -> Manifest:
    if found.get("schemaVersion") == 1 or "fsLayers" in found:
        raise Flaw("is of Docker's first form (schema 1), which is no longer used; push it again with a newer tool")
    listed = found.get("layers")
    if not isinstance(listed, list):
        raise _odd("manifest")
    if len(listed) > MOST_LAYERS:
        raise Flaw(f"has {len(listed)} layers, more than {MOST_LAYERS}; build it of fewer")
    for layer in listed:
        kind = layer.get("mediaType") if isinstance(layer, dict) else None
        if isinstance(kind, str) and "+encrypted" in kind:
            raise Flaw("has an encrypted layer; decrypt it, as by skopeo copy --decryption-key")
    config = descriptor(found.get("config"), "manifest")
    return Manifest(config, tuple(descriptor(layer, "manifest") for layer in listed))


def diff_ids(found: dict[str, Any], layers: int | None) -> list[str]:
    """The digests of the layers as they are unpacked; `layers`: how many there are."""
    platform = (found.get("os", PLATFORM[0]), found.get("architecture", PLATFORM[1]))
    if platform != PLATFORM:
        shown = "/".join(printable(str(part)[:20]) for part in platform)
        raise Flaw(f"is for {shown}, and guests here are {'/'.join(PLATFORM)}; take one for that")
    root = found.get("rootfs")
    listed = root.get("diff_ids") if isinstance(root, dict) else None
    if not isinstance(listed, list):
        raise Flaw("has a configuration without a list of layers: it is not an image that runs")
    if not all(isinstance(each, str) and DIGEST.fullmatch(each) for each in listed):
        raise _odd("configuration")
    if len(listed) > MOST_LAYERS or (layers is not None and layers != len(listed)):
        raise Flaw(f"has a configuration of {len(listed)} layers, and not as many layers; {_AGAIN}")
    return listed


def image_config(found: dict[str, Any]) -> ImageConfig:
    """From a whole configuration: what is in its `config`."""
    about = found.get("config")
    if about is None:
        about = {}
    if not isinstance(about, dict):
        raise _odd("configuration")
    labels = _object(about, "Labels")
    values = _words(list(labels.values()), "Labels")
    env = _words(about.get("Env"), "Env")
    if any(word.find("=") < 1 for word in env):
        raise Flaw(f"has a configuration with an environment that is not NAME=VALUE; {_AGAIN}")
    return ImageConfig(
        entrypoint=_words(about.get("Entrypoint"), "Entrypoint"),
        cmd=_words(about.get("Cmd"), "Cmd"),
        env=env,
        user=_word(about.get("User"), "User"),
        working_dir=_word(about.get("WorkingDir"), "WorkingDir"),
        exposed_ports=_words(list(_object(about, "ExposedPorts")), "ExposedPorts"),
        volumes=_words(list(_object(about, "Volumes")), "Volumes"),
        stop_signal=_word(about.get("StopSignal"), "StopSignal"),
        labels=dict(zip(_words(list(labels), "Labels"), values, strict=True)),
    )


def _object(about: dict[str, Any], key: str) -> dict[str, Any]:
    value = about.get(key)
    if value is not None and not isinstance(value, dict):
        raise _odd("configuration", key)
    return value or {}


def _words(value: Any, key: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > _MOST_WORDS:
        raise _odd("configuration", key)
    return tuple(_word(word, key) for word in value)


def _word(value: Any, key: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or "\0" in value or len(value) > _LONGEST_WORD or _lone(value):
        raise _odd("configuration", key)
    return value


def _lone(text: str) -> bool:
    """Whether it has half of a UTF-16 pair, which is no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _odd(what: str, key: str = "") -> Flaw:
    about = f" ({key})" if key else ""
    return Flaw(f"has a {what} that is not as the specification says{about}; {_AGAIN}")


def resolved(data: bytes, fetch: Callable[[Descriptor], bytes]) -> tuple[bytes, str]:
    """From an image's first document to its manifest for this platform, and that one's digest. `fetch` gives what a
    descriptor names. An index may be in an index, once; none of them can name itself."""
    for _ in range(3):
        found = document(data, "manifest")
        if not is_index(found):
            return data, digest_of(data)
        wanted = chosen(entries(found))
        data = fetch(wanted)
        require_digest(data, wanted.digest, "manifest")
    raise Flaw(f"has indexes in indexes without end; {_AGAIN}")
