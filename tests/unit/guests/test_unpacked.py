"""A bzImage becomes a vmlinux in the cache, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral import boot
from corral.errors import BootError
from corral.guests import unpacked
from tests.support import kernels


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_once(tmp_path: Path) -> None:
    image = tmp_path / "vmlinuz"
    image.write_bytes(kernels.bzimage(kernels.payload(kernels.vmlinux(), "xz")))
    said: list[str] = []
    path = unpacked.vmlinux(str(image), "linux_1.0", said.append)
    assert Path(path).read_bytes() == kernels.vmlinux()
    assert said == ["unpacking vmlinuz"]
    with boot.open_kernel(path) as kernel:
        assert kernel.kind == "vmlinux"
    image.unlink()
    assert unpacked.vmlinux(str(image), "linux_1.0", said.append) == path
    assert len(said) == 1


def test_what_is_no_bzimage_leaves_nothing(tmp_path: Path) -> None:
    image = tmp_path / "vmlinux"
    image.write_bytes(kernels.vmlinux())
    with pytest.raises(BootError, match="no bzImage"):
        unpacked.vmlinux(str(image), "linux_1.0")
    assert not list((tmp_path / "cache" / "corral" / "unpacked").glob("linux_1.0/*"))
