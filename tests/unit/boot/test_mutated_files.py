"""Hypothesis breaks kernels and archives: each is loaded or refused in one line, and nothing else ever happens."""

from __future__ import annotations

import bz2
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral import boot
from corral.errors import BootError, HostError
from corral.memory import GuestMemory
from tests.support import kernels

MIB = 1 << 20

VMLINUX = kernels.vmlinux(
    segments=(
        kernels.text_segment(),
        kernels.pvh_note(kernels.LOAD_ADDRESS),
        kernels.Segment(physical=2 * MIB, data=b"data" * 30, virtual=0),
    )
)
KERNELS = {
    "vmlinux": VMLINUX,
    "pvh": kernels.pvh_guest(),
    "multiboot": kernels.multiboot_elf(kernels.multiboot()),
    "multiboot with addresses": kernels.multiboot((MIB, MIB, 0, MIB + 4096, MIB + 32), code=bytes(300)),
    "multiboot 2": kernels.multiboot_elf(
        kernels.multiboot2([kernels.multiboot2_tag(1, 1, 3, 6), kernels.multiboot2_tag(3, MIB)])
    ),
    "multiboot 2 with addresses": kernels.multiboot2(
        [kernels.multiboot2_tag(2, MIB, MIB, 0, 0), kernels.multiboot2_tag(3, MIB)], code=bytes(300)
    ),
    "program": kernels.unpacked_program(),
    **{name: kernels.bzimage(kernels.payload(VMLINUX, name)) for name in kernels.COMPRESSIONS},
}
ARCHIVES = {
    "cpio": kernels.cpio([("init", b"#!/bin/sh\n"), ("a", b"x" * 300)]),
    **{name: pack(kernels.cpio([("a", bytes(range(256)))])) for name, pack in kernels.COMPRESSIONS.items()},
}

# A change: at an offset (mostly within the headers) a number, in the widths that headers have.
NUMBERS = st.one_of(
    st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1]),
    st.integers(0, (1 << 64) - 1),
)
CHANGES = st.lists(
    st.tuples(st.one_of(st.integers(0, 0x2A0), st.integers(0, 20_000)), st.sampled_from([1, 2, 4, 8]), NUMBERS),
    min_size=1,
    max_size=5,
)
CUTS = st.one_of(st.none(), st.integers(0, 20_000))


def changed(data: bytes, changes: list[tuple[int, int, int]], cut: int | None) -> bytes:
    out = bytearray(data)
    for offset, width, value in changes:
        if offset + width <= len(out):
            out[offset : offset + width] = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
    return bytes(out[:cut])


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    with tempfile.NamedTemporaryFile() as file:
        yield Path(file.name)


@pytest.fixture(scope="module")
def good_kernel() -> Iterator[Path]:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(VMLINUX)
        yield Path(file.name)


def load_or_refuse(kernel: Path, initrd: Path | None = None, protocol: str | None = None) -> None:
    memory = GuestMemory(64 * MIB)
    message = ""
    try:
        with boot.open_kernel(kernel, protocol) as opened:
            assert "\n" not in str(opened.describe())
            entry = opened.load(memory, b"quiet", initrd)
            memory.view(entry.rip, 1).release()
    except (BootError, HostError) as error:
        message = str(error)
    finally:
        memory.close()
    assert message.isprintable()


@pytest.mark.parametrize("name", KERNELS)
@given(changes=CHANGES, cut=CUTS)
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_kernels(path: Path, name: str, changes: list[tuple[int, int, int]], cut: int | None) -> None:
    path.write_bytes(changed(KERNELS[name], changes, cut))
    load_or_refuse(path)


@given(changes=CHANGES, cut=CUTS)
@settings(deadline=None, max_examples=150)
def test_kernels_by_pvh(path: Path, changes: list[tuple[int, int, int]], cut: int | None) -> None:
    path.write_bytes(changed(KERNELS["vmlinux"], changes, cut))
    load_or_refuse(path, protocol="pvh")


@pytest.mark.parametrize("name", ["gzip", "lz4", "none"])
@given(changes=CHANGES)
@settings(deadline=None, max_examples=150)
def test_what_is_in_a_payload(path: Path, name: str, changes: list[tuple[int, int, int]]) -> None:
    path.write_bytes(kernels.bzimage(kernels.payload(changed(VMLINUX, changes, None), name)))
    load_or_refuse(path)


@pytest.mark.parametrize("name", ARCHIVES)
@given(changes=CHANGES, cut=CUTS)
@settings(deadline=None, max_examples=150)
def test_archives(
    path: Path, good_kernel: Path, name: str, changes: list[tuple[int, int, int]], cut: int | None
) -> None:
    path.write_bytes(changed(ARCHIVES[name], changes, cut))
    load_or_refuse(good_kernel, path)


@given(data=st.binary(max_size=5000))
@settings(deadline=None)
def test_any_bytes(path: Path, good_kernel: Path, data: bytes) -> None:
    path.write_bytes(data)
    load_or_refuse(path)
    load_or_refuse(good_kernel, path)


def distribution_kernel() -> Path | None:
    """A real kernel in the user's cache or in /boot."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corral"
    # Not glob(): another process may remove there what it has built.
    kept = [Path(folder, name) for folder, _, names in os.walk(cache) for name in names if name.startswith("vmlinuz")]
    found = [*kept, *Path("/boot").glob("vmlinuz*")]
    return next((path for path in sorted(found) if path.is_file() and os.access(path, os.R_OK)), None)


@pytest.fixture(scope="module")
def real_kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    original = distribution_kernel()
    if original is None:
        pytest.skip("no vmlinuz in the cache or in /boot")
    copy = tmp_path_factory.mktemp("kernel") / "vmlinuz"
    shutil.copyfile(original, copy)
    return copy


@given(changes=st.lists(st.tuples(st.integers(0x1F0, 0x270), st.sampled_from([1, 2, 4, 8]), NUMBERS), max_size=4))
@settings(deadline=None, max_examples=60)
def test_a_real_kernel(real_kernel: Path, changes: list[tuple[int, int, int]]) -> None:
    with open(real_kernel, "r+b", buffering=0) as file:
        head = file.read(4096)
        os.pwrite(file.fileno(), changed(head, changes, None), 0)
        try:
            load_or_refuse(real_kernel)
        finally:
            os.pwrite(file.fileno(), head, 0)


# Loads every file that it is given with 64 MiB of address space to spare, and tells how much it used at most.
_LIMITED = """
import resource, sys
from corral import boot
from corral.boot import bzimage, flat, initramfs, not_a_kernel, pvh, vmlinux
from corral.errors import CorralError
from corral.files import decompress
from corral.memory import GuestMemory
import bz2, lz4.block, lzma, zlib
if sys.version_info >= (3, 14):
    from compression import zstd
else:
    import zstandard
memory = GuestMemory(512 << 20)
mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
if sys.argv[1] == "limit":
    resource.setrlimit(resource.RLIMIT_AS, (mapped + (64 << 20),) * 2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[2:]:
    try:
        with boot.open_kernel(path) as kernel:
            kernel.load(memory)
    except CorralError as error:
        assert str(error).isprintable()
    else:
        sys.exit(f"{path} was not refused")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.fixture(scope="module")
def hungry(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Kernels that would take a lot of memory, or that are a lot to read."""
    folder = tmp_path_factory.mktemp("hungry")
    contents = {
        # What it unpacks to is what it says, and is no kernel.
        "zeros": bytes(80 * MIB),
        # It is a kernel, and much follows.
        "tail": VMLINUX + bytes(80 * MIB),
    }
    files = []
    packers: dict[str, Callable[[bytes], bytes]] = {
        **kernels.COMPRESSIONS,
        "xz": lambda data: lzma.compress(data, preset=0),
        "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
        "bzip2": lambda data: bz2.compress(data, 1),
    }
    del packers["none"]
    for compression, pack in packers.items():
        for what, content in contents.items():
            size = b"" if compression == "gzip" else len(content).to_bytes(4, "little")
            files.append(folder / f"{compression}-{what}")
            files[-1].write_bytes(kernels.bzimage(pack(content) + size, init_size=400 * MIB))
    files.append(folder / "sparse")
    files[-1].write_bytes(b"\0")
    files.append(folder / "wide")
    files[-1].write_bytes(kernels.vmlinux(segments=(kernels.Segment(file_size=1 << 39, memory_size=1 << 39),)))
    for path in files[-2:]:
        os.truncate(path, 1 << 40)
    return files


@pytest.mark.parametrize("mode", ["limit", "measure"])
@pytest.mark.long
def test_bad_kernels_need_little_memory(hungry: list[Path], mode: str) -> None:
    command = [sys.executable, "-c", _LIMITED, mode, *map(str, hungry)]
    # Not under a sanitizer, which has a use of memory of its own.
    environment = {key: value for key, value in os.environ.items() if key not in ("LD_PRELOAD", "PYTHONPATH")}
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) <= 64 << 10
