"""Programs of Corral's own that run in guests: compiled when they are needed, or carried by a wheel, which so wants
no compiler."""

from __future__ import annotations

import os

from corral.errors import HostError
from corral.guests import sources

CARRIED = "programs"  # the folder of a wheel's data that has them (csrc/build_ffi.py)
AGENT = "../agent/agent.c"  # from guests/init
FLAGS = [
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


def names() -> list[str]:
    """The sources, as paths from guests/init."""
    return [AGENT, *sorted(name for name in os.listdir(sources.folder("init")) if name.endswith(".c"))]


def compiled(source: str, folder: str) -> bytes:
    """The program that a source of names() becomes; `folder` holds it meanwhile. Raises HostError without gcc."""
    if carried := carries(program(source)):
        return _content(carried)
    output = os.path.join(folder, program(source))
    compile_program(source, output)
    try:
        return _content(output)
    finally:
        os.unlink(output)


def carries(name: str) -> str | None:
    """The path of the program in this Corral, if that is a wheel's."""
    path = os.path.join(sources.folder(CARRIED), name)
    return path if os.path.exists(path) else None


def program(source: str) -> str:
    """What a source's program is called."""
    return os.path.splitext(os.path.basename(source))[0]


def compile_program(source: str, output: str) -> None:
    """Writes the program of a source to `output`. Raises HostError."""
    import subprocess

    source = os.path.join(sources.folder("init"), source)
    try:
        subprocess.run(["gcc", *FLAGS, source, "-o", output], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise HostError("no gcc to build the guest's init; install it: apt-get install gcc") from error
    except subprocess.CalledProcessError as error:
        raise HostError(f"gcc cannot build the guest's init: {error.stderr.strip().splitlines()[-1]}") from error


def key(source: str) -> str:
    """A key for what is made from that source of guests/init, and from the agent."""
    headers = sorted(name for name in os.listdir(sources.folder("init")) if name.endswith(".h"))
    agent = sorted(os.listdir(sources.folder("agent")))
    files = (*headers, source, *(f"../agent/{name}" for name in agent if name.endswith((".c", ".h"))))
    contents = (_content(os.path.join(sources.folder("init"), name)) for name in files)
    return sources.digest(source.encode(), *contents, " ".join(FLAGS).encode())


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
