"""The programs of other packages that tests run, by the folder of the tests. They are checked before the first test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from corral.errors import HostError
from corral.guests import debian

TESTS = Path(__file__).parents[1]

# Program, or a file with all of its path: package. A folder's tests need those of the folders above it, too.
NEEDED = {
    "": {"gcc": "gcc", "nm": "binutils"},
    "unit/acpi": {"iasl": "acpica-tools"},
    "unit/boot": {"lzop": "lzop", "mke2fs": "e2fsprogs"},
    "unit/cli": {"mke2fs": "e2fsprogs"},
    "unit/compare": {"ldd": "libc-bin", "mke2fs": "e2fsprogs", "stress-ng": "stress-ng"},
    "unit/guests": {"apt-get": "apt", "cpio": "cpio", "dpkg-deb": "dpkg", "mke2fs": "e2fsprogs"},
    "unit/oci": {"docker-registry": "docker-registry", "skopeo": "skopeo"},
    "unit/images": {"blkid": "util-linux", "mke2fs": "e2fsprogs"},
    "kvm": {
        "afl-fuzz": "afl++",
        "bwrap": "bubblewrap",
        "clang": "clang",
        "gdb": "gdb",
        "git": "git",
        "make": "make",
        "mke2fs": "e2fsprogs",
        "mkfs.erofs": "erofs-utils",
        "mmdebstrap": "mmdebstrap",
        "passt": "passt",
        "pgrep": "procps",
        "runc": "runc",
        "socat": "socat",
        "sqlite3": "sqlite3",
    },
    "nested": {
        "bwrap": "bubblewrap",
        "gdb": "gdb",
        "mke2fs": "e2fsprogs",
        "mmdebstrap": "mmdebstrap",
        "runc": "runc",
        "grub-mkimage": "grub-common",
        "/usr/lib/grub/i386-pc/boot.img": "grub-pc-bin",
        "lscpu": "util-linux",
        "lstopo-no-graphics": "hwloc-nox",
        "numactl": "numactl",
        "qemu-system-x86_64": "qemu-system-x86",
    },
    "durability": {"mke2fs": "e2fsprogs"},
    "compilers": {"clang": "clang", "gcc-12": "gcc-12"},
}


def needed(paths: Iterable[Path]) -> dict[str, str]:
    """The programs that the tests of these files run, and the package of each."""
    found: dict[str, str] = {}
    for path in paths:
        for folder, programs in NEEDED.items():
            if path.is_relative_to(TESTS / folder):
                found |= programs
    return found


def require(paths: Iterable[Path]) -> None:
    """Installs what is missing when root; else ends the run with one line that names all of it."""
    try:
        install(paths)
    except HostError as error:
        pytest.exit(str(error), returncode=error.exit_status)


def install(paths: Iterable[Path], packages: Iterable[str] = ()) -> None:
    """Installs what the tests of these files lack, and these packages, when root; else raises HostError naming all."""
    missing = {name: package for name, package in needed(paths).items() if not _is_there(name)}
    wanted = sorted({*missing.values(), *packages})
    if wanted:
        what = f"running these tests ({', '.join(sorted(missing))})" if missing else "running these tests"
        debian.require_installed(wanted, what)


def _is_there(name: str) -> bool:
    return os.path.exists(name) if name.startswith("/") else shutil.which(name) is not None
