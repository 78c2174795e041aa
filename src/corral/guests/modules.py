"""A kernel's modules, in the order in which they load."""

from __future__ import annotations

import os

from corral.errors import HostError


def load_order(tree: str, modules: list[str]) -> list[tuple[str, bytes]]:
    """(file name, content) of `modules` and all that they depend on, what is depended on first; `tree` is the folder of
    a kernel's modules, what it does not have is built into the kernel. Compressed modules come unpacked."""
    paths = {}
    for folder, _, names in os.walk(tree):
        for name in names:
            stem, dot, _ = name.partition(".ko")
            if dot:
                paths[stem.replace("-", "_")] = os.path.join(folder, name)
    order: dict[str, bytes] = {}

    def add(module: str) -> None:
        if module in order or module not in paths:
            return
        content = _read(paths[module])
        for dependency in _information(content, b"depends").decode().split(","):
            if dependency:
                add(dependency.replace("-", "_"))
        order[module] = content

    for module in modules:
        add(module)
    return [(f"{name}.ko", content) for name, content in order.items()]


def _information(module: bytes, key: bytes) -> bytes:
    """A value of the module's .modinfo section, which is NUL-separated text."""
    at = module.find(b"\0" + key + b"=")
    return b"" if at < 0 else module[at + len(key) + 2 : module.index(b"\0", at + 1)]


def _read(path: str) -> bytes:
    """The module's ELF file; distributions pack them by gzip, xz or zstd. Raises HostError for one that is damaged, or
    whose packing takes a library that is missing."""
    from corral.files import decompress
    from corral.files.file import Flaw

    with open(path, "rb") as file:
        content = file.read()
    form = decompress.identify(content[: decompress.MAGIC_SIZE])
    if form is None:
        return content
    source = decompress.Source(lambda at, size: content[at : at + size], 0, len(content))
    try:
        return b"".join(decompress.unpack(form, source))
    except Flaw as flaw:
        raise HostError(f"the module {path} {flaw}") from None
