"""Kernels of distributions for tests: of this host's release, and of another one where the host's archive has it."""

from __future__ import annotations

import stat
from functools import lru_cache
from pathlib import Path

import pytest

from corral.arch.x86_64.supervisor import Supervisor, supervisor_mode
from corral.errors import HostError
from corral.files.cpio import entry, trailer
from corral.guests import apt_suite, cache, debian, initramfs, kernel, kernel_package, sources
from corral.guests.modules import load_order

# Debian 12's and 13's, the cloud kernel and the one for every PC; the latter are for long runs.
NAMES = ("bookworm-cloud", "trixie-cloud", "bookworm-generic", "trixie-generic")
QUICK_FIRST = [pytest.param(name, marks=[pytest.mark.long] * name.endswith("generic")) for name in NAMES]
_METAPACKAGES = {"cloud": "stock", "generic": "stock-generic"}


_options = lru_cache(lambda suite: apt_suite.find("debian", suite).options)


@lru_cache
def get(name: str) -> kernel_package.KernelPackage:
    """One of NAMES, fetched if the cache lacks it; else the test is skipped, with the reason."""
    suite, _, flavour = name.partition("-")
    try:
        options = _options(suite)
        metapackage = kernel.STOCK_METAPACKAGES[_METAPACKAGES[flavour]]
        package = debian.dependency(metapackage, kernel_package.PREFIX, options)
        return kernel_package.fetch(package, options)
    except HostError as error:
        pytest.skip(f"Debian's kernel {name} cannot be had here: {error}")


def skip_where_interpreted() -> None:
    if supervisor_mode().supervisor is Supervisor.INTERPRETED:
        pytest.skip("this KVM interprets kernel code, and a distribution's kernel takes a quarter of an hour then")


def with_modules(file: kernel.KernelFile, modules: list[str]) -> tuple[str, list[str]]:
    """Corral's initramfs and a kernel's modules, in the cache, where a nested host sees it; and their order."""
    assert file.package
    order = load_order(file.package.modules, modules)
    folder = entry("modules", stat.S_IFDIR | 0o755)
    files = [entry(f"modules/{module}", stat.S_IFREG | 0o644, content) for module, content in order]
    content = Path(initramfs.path()).read_bytes() + b"".join([folder, *files, trailer()])
    target = cache.folder("nested", f"modules_{file.version}_{sources.digest(content)}")
    with cache.making(target) as unfinished:
        if unfinished:
            (Path(unfinished) / "initramfs.cpio").write_bytes(content)
    return str(Path(target) / "initramfs.cpio"), [module for module, _ in order]
