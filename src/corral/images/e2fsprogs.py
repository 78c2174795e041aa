"""The distribution's tools for ext4: mke2fs, which makes a file system from a folder, and debugfs, which changes
what only root could have put there."""

from __future__ import annotations

import os

from corral.errors import BootError, HostError

BLOCK = 4096
_SBIN = ("/usr/sbin", "/sbin")  # where they are; not in everybody's PATH
_FULL = "Could not allocate"
_OLD = "Bad option(s) specified"


class Full(Exception):
    """What is to be in the file system does not fit."""


def require() -> None:
    """Raises HostError when a tool is missing."""
    for tool in ("mke2fs", "debugfs"):
        _find(tool)


def make_file_system(folder: str, image: str, content: str | None = None, inodes: int = 0, features: str = "") -> None:
    """Makes an ext4 file system in the sparse file `image` of `folder`, which stays sparse; `content` is the folder
    that it begins with, `features` are more of mke2fs's -O. Raises Full when that does not fit."""
    # The same on every host: what newer ones have by default, GRUB and older kernels do not read, and a guest's mount
    # takes longer.
    command = [
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        str(BLOCK),
        "-O",
        ",".join(filter(None, ("^orphan_file,^metadata_csum_seed", features))),
    ]
    # A new file reads as zeros: neither mke2fs nor the guest has to write them.
    command += ["-E", "assume_storage_prezeroed=1,root_owner=0:0"]
    command += ["-N", str(inodes)] if inodes else []
    command += ["-d", content] if content is not None else []
    status, errors = _run(folder, "mke2fs", *command, image)
    if status and _OLD in errors:
        raise HostError("this mke2fs is too old; Corral needs e2fsprogs 1.47 (Debian 12) or newer")
    if status and _FULL in errors:
        raise Full
    if status:
        raise BootError(f"mke2fs cannot make the image: {_first_line(errors)}")


def change(folder: str, image: str, commands: list[str]) -> None:
    """Has debugfs execute `commands`, in `folder`. Names in them are quoted(); inodes are <number>."""
    if not commands:
        return
    with open(os.path.join(folder, "commands"), "wb") as file:
        file.writelines(os.fsencode(command) + b"\n" for command in commands)
    status, errors = _run(folder, "debugfs", "-w", "-f", "commands", image)
    lines = [line for line in errors.splitlines() if line and not line.startswith("debugfs 1.")]
    if any(_FULL in line for line in lines):
        raise Full
    if status or lines:  # a command that fails leaves the status 0
        raise BootError(f"debugfs cannot finish the image: {_first_line(errors)}")


def quoted(name: bytes) -> str | None:
    """A name as one word of a debugfs command; None for one that its lines cannot hold."""
    if any(byte < 0x20 or byte == 0x7F for byte in name):
        return None
    return '"' + os.fsdecode(name).replace('"', '""') + '"'


def _find(tool: str) -> str:
    import shutil

    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = shutil.which(tool, path=os.pathsep.join([*places, *_SBIN]))
    if found is None:
        raise HostError(f"there is no {tool} on this host; install it: sudo apt-get install e2fsprogs")
    return found


def _run(folder: str, tool: str, *arguments: str) -> tuple[int, str]:
    """Its status and what it says on standard error. It ends when this is left by an exception."""
    import subprocess

    done = subprocess.run(
        [_find(tool), *arguments],
        cwd=folder,
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    return done.returncode, done.stderr.decode(errors="replace")


def _first_line(errors: str) -> str:
    """The cause comes first; what it led to follows."""
    for line in errors.splitlines():
        if line and not line.startswith(("debugfs 1.", "mke2fs 1.")):
            return line if line.isprintable() else repr(line)
    return "it does not say why"
