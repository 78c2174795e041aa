"""The configuration of a kernel: beside it, in it, damaged, hostile."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral import boot
from corral.boot import kernel_config
from corral.boot.kernel_config import KernelConfig
from tests.support import kernels

Save = Callable[[bytes], Path]
TEXT = '# Linux\nCONFIG_X86_64=y\nCONFIG_ACPI=y\n# CONFIG_SMP is not set\nCONFIG_EXT4_FS=m\nCONFIG_CMDLINE="a b"\n'


def with_config(packed: bytes, before: int = 100) -> bytes:
    data = bytes(before) + b"IKCFG_ST" + packed + b"IKCFG_ED" + bytes(50)
    return kernels.vmlinux(segments=(kernels.text_segment(), kernels.Segment(physical=2 << 20, data=data)))


def find(path: Path) -> KernelConfig | None:
    with boot.open_kernel(path) as kernel:
        return kernel_config.find(kernel, kernel.describe().release)


def test_options() -> None:
    config = KernelConfig("", TEXT)
    assert [config[name] for name in ("ACPI", "SMP", "EXT4_FS", "CMDLINE", "UNHEARD")] == ["y", "n", "m", "a b", "n"]
    assert (config.any("SMP", "EXT4_FS"), config.any("SMP"), config.any("EXT4_FS", "ACPI")) == ("m", "n", "y")


# A piece has 1 MiB: words across the border of two, and data that is longer than one.
@pytest.mark.parametrize("before", [0, *range((1 << 20) - 400, (1 << 20) - 200, 13)])
def test_embedded(save: Save, before: int) -> None:
    found = find(save(with_config(gzip.compress(TEXT.encode()), before)))
    assert found is not None
    assert (found.source, found["EXT4_FS"]) == ("embedded in the kernel", "m")


@pytest.mark.parametrize("compression", ["gzip", "xz", "lz4", "none"])
def test_embedded_in_a_bzimage(save: Save, compression: str) -> None:
    vmlinux = with_config(gzip.compress(TEXT.encode()))
    found = find(save(kernels.bzimage(kernels.payload(vmlinux, compression))))
    assert found is not None
    assert found["ACPI"] == "y"


@pytest.mark.parametrize("name", ["config-1.2-test", "config-6.1.0-miniature", "config"])
def test_beside(tmp_path: Path, name: str) -> None:
    """By the name of the file, or by the release that is in it; it goes before what is embedded."""
    kernel = tmp_path / "vmlinuz-1.2-test"
    kernel.write_bytes(kernels.bzimage(kernels.payload(with_config(gzip.compress(b"CONFIG_X86_64=y\n")))))
    (tmp_path / name).write_text(TEXT)
    found = find(kernel)
    assert found is not None
    assert (found.source, found["ACPI"]) == (str(tmp_path / name), "y")


def test_in_a_source_tree(tmp_path: Path) -> None:
    kernel = tmp_path / "arch" / "x86" / "boot" / "bzImage"
    kernel.parent.mkdir(parents=True)
    kernel.write_bytes(kernels.bzimage(kernels.payload(kernels.vmlinux())))
    (tmp_path / ".config").write_text(TEXT)
    found = find(kernel)
    assert found is not None
    assert found["ACPI"] == "y"


def test_what_is_beside_and_no_configuration(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz-1"
    kernel.write_bytes(kernels.bzimage(kernels.payload(kernels.vmlinux())))
    beside = tmp_path / "config-1"
    for make in (
        lambda: beside.write_bytes(b"\xff" * 1000),
        lambda: beside.write_text("CONFIG_ARM64=y\n"),
        lambda: beside.write_text("CONFIG_X86_64=y\n" + "#" * kernel_config.MAX_SIZE),
        lambda: (beside.unlink(), beside.mkdir()),
    ):
        make()
        assert find(kernel) is None


def test_a_release_with_a_path_in_it_leads_nowhere(tmp_path: Path) -> None:
    """A kernel chooses its own release: it shall not choose a file."""
    secret = tmp_path / "config-x"
    secret.write_text(TEXT)
    (tmp_path / "config-").mkdir()
    folder = tmp_path / "sub"
    folder.mkdir()
    (folder / "config-").mkdir()
    kernel = folder / "bzimage"
    kernel.write_bytes(kernels.bzimage(kernels.payload(kernels.vmlinux())))
    with boot.open_kernel(kernel) as opened:
        for release in ("/../../config-x", "../x", "..", ".", "", None):
            assert kernel_config.find(opened, release) is None


BOMB = gzip.compress(bytes(64 << 20))


@pytest.mark.parametrize(
    "packed", [b"", b"\x1f\x8b", b"x" * 100, gzip.compress(TEXT.encode())[:40], BOMB], ids=range(5)
)
def test_damaged(save: Save, packed: bytes) -> None:
    found = find(save(with_config(packed)))
    assert found is None or found["ACPI"] in ("y", "n")


@given(st.binary(max_size=300), st.binary(max_size=300))
@settings(deadline=None, max_examples=100)
def test_any_bytes(head: bytes, packed: bytes) -> None:
    kernel_config._embedded([head, b"IKCFG_ST" + packed, b"IKCFG_ED"])  # raises nothing
