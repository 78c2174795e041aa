"""Corral's initramfs: init, a busybox and the console's device node, in a cpio archive that Python writes."""

from __future__ import annotations

import os
import stat

from corral.errors import HostError
from corral.files.cpio import entry, trailer
from corral.guests import cache, sources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

AGENT = "../agent/agent.c"  # from guests/init
_FLAGS = [
    "-Os",
    "-static",
    "-nostdlib",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fcf-protection=none",
    "-fno-pie",
    "-no-pie",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wl,--build-id=none,-z,noseparate-code,-z,noexecstack,-z,norelro",
    "-s",
]


def path(progress: Callable[[str], None] = lambda text: None) -> str:
    """The initramfs, built when it is not in the cache. Raises HostError when busybox or gcc can't be had."""
    target = cache.folder("initramfs", key("init.c"))
    with cache.making(target) as unfinished:
        if unfinished:
            progress("building the initramfs")
            init, agent = compiled("init.c", unfinished), compiled(AGENT, unfinished)
            with open(os.path.join(unfinished, "initramfs.cpio"), "wb") as file:
                file.write(archive(init, busybox(), agent))
    return os.path.join(target, "initramfs.cpio")


def key(source: str) -> str:
    """A key for what is made from that init of guests/init."""
    headers = sorted(name for name in os.listdir(sources.folder("init")) if name.endswith(".h"))
    agent = sorted(os.listdir(sources.folder("agent")))
    files = (*headers, source, *(f"../agent/{name}" for name in agent if name.endswith((".c", ".h"))))
    return sources.digest(source.encode(), *map(_source, files), " ".join(_FLAGS).encode())


def _source(name: str) -> bytes:
    with open(os.path.join(sources.folder("init"), name), "rb") as file:
        return file.read()


def archive(init: bytes, busybox: bytes, agent: bytes) -> bytes:
    """The cpio archive. busybox is /bin/sh; it finds its other applets by itself (it prefers them to files)."""
    return b"".join(
        [
            entry("dev", stat.S_IFDIR | 0o755),
            entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
            entry("init", stat.S_IFREG | 0o755, init),
            entry("agent", stat.S_IFREG | 0o755, agent),
            entry("bin", stat.S_IFDIR | 0o755),
            entry("bin/busybox", stat.S_IFREG | 0o755, busybox),
            entry("bin/sh", stat.S_IFLNK | 0o777, b"busybox"),
            trailer(),
        ]
    )


def compiled(source: str, folder: str) -> bytes:
    """The program that a source of guests/init becomes; `folder` holds it meanwhile. Raises HostError."""
    import subprocess

    output = os.path.join(folder, os.path.splitext(os.path.basename(source))[0])
    source = os.path.join(sources.folder("init"), source)
    try:
        subprocess.run(["gcc", *_FLAGS, source, "-o", output], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise HostError("no gcc to build the guest's init; install it: apt-get install gcc") from error
    except subprocess.CalledProcessError as error:
        raise HostError(f"gcc cannot build the guest's init: {error.stderr.strip().splitlines()[-1]}") from error
    with open(output, "rb") as file:
        program = file.read()
    os.unlink(output)
    return program


def busybox() -> bytes:
    """The distribution's, which needs no libraries. Raises HostError when it can't be had."""
    from corral.guests import debian

    with open(debian.file("busybox-static", "bin/busybox"), "rb") as file:
        return file.read()
