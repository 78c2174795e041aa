"""Start-up is a feature: what booting imports, and what it leaves alone until a file needs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import kernels

Save = Callable[[bytes], Path]

_LOAD = """
import sys
from corral import boot
from corral.memory import GuestMemory
memory = GuestMemory(64 << 20)
with boot.open_kernel(sys.argv[1]) as kernel:
    kernel.load(memory, b"quiet", *sys.argv[2:])
print(*sys.modules)
"""
HEAVY = {
    "dataclasses",
    "inspect",
    "typing",
    "pathlib",
    "re",
    "subprocess",
    "tempfile",
    "json",
    "shutil",
    "capstone",
}
DECODERS = {"zlib", "bz2", "lzma", "lz4", "zstandard", "compression.zstd", "lzo"}
OURS = {"corral.files.decompress", "corral.boot.not_a_kernel", "corral.boot.flat"}


def imported(*files: Path) -> set[str]:
    # -S -E: what a site's own customisation imports is not our doing.
    paths = [path for path in sys.path if path]
    script = f"import sys; sys.path[:] = {paths!r}\n{_LOAD}"
    command = [sys.executable, "-S", "-E", "-c", script, *map(str, files)]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_a_vmlinux_and_a_cpio_archive(save: Save) -> None:
    found = imported(save(kernels.vmlinux()), save(kernels.cpio()))
    assert not found & (HEAVY | DECODERS | OURS)
    assert "corral.boot.bzimage" not in found
    assert "corral.boot.pvh" not in found


def test_a_pvh_guest(save: Save) -> None:
    found = imported(save(kernels.pvh_guest()))
    assert not found & (HEAVY | DECODERS | OURS)


@pytest.mark.parametrize(
    ("compression", "library"),
    [("gzip", "zlib"), ("bzip2", "bz2"), ("xz", "lzma"), ("lzma", "lzma"), ("lz4", "lz4")],
)
def test_a_bzimage_needs_the_library_of_its_format_only(save: Save, compression: str, library: str) -> None:
    found = imported(save(kernels.bzimage(kernels.payload(kernels.vmlinux(), compression))))
    assert found & DECODERS == {library}
