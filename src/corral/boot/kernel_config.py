"""The configuration that a Linux kernel was built with: beside its file, or embedded in it.

Source: the kernel's kernel/configs.c (CONFIG_IKCONFIG): gzip data between two words.
"""

from __future__ import annotations

import os

from corral.boot import companions
from corral.errors import CorralError
from corral.files.file import Flaw, ImageFile, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from corral.boot.kernel import Kernel

MAX_SIZE = 4 << 20  # bytes of text; a distribution's is 300 KB
_MAX_PACKED = 1 << 20
_START, _END = b"IKCFG_ST", b"IKCFG_ED"
_PIECE = 1 << 20


class KernelConfig:
    """`source` says where it is from, for a person. Options are named without CONFIG_."""

    def __init__(self, source: str, text: str) -> None:
        self.source = source
        self._text = f"\n{text}"

    def __getitem__(self, option: str) -> str:
        """ "y", "m", a number, a text; "n" for what is not set."""
        # Of ten thousand lines few are asked for: to search for each is quicker than to take all apart.
        _, found, rest = self._text.rpartition(f"\nCONFIG_{option}=")
        return rest.partition("\n")[0].strip('"\r') if found else "n"

    def any(self, *options: str) -> str:
        """Of several options that serve the same end the best value: "y", "m" or "n"."""
        values = [self[option] for option in options]
        return "y" if "y" in values else "m" if "m" in values else "n"


def find(kernel: Kernel, release: str | None) -> KernelConfig | None:
    """What there is for a kernel: a file beside it first, since that takes no unpacking. None: nothing.

    `release` is as the file tells it, hostile. Raises nothing: what is damaged is as if it were not there.
    """
    for path in _candidates_beside(kernel.path, release):
        text = _read(path)
        if text is not None and (found := KernelConfig(printable(path), text))["X86_64"] == "y":
            return found
    try:
        text = _embedded(_pieces(kernel))
    except (Flaw, CorralError):  # loading it tells why
        return None
    return KernelConfig("embedded in the kernel", text) if text else None


def _candidates_beside(path: str, release: str | None) -> Iterator[str]:
    folder, name = os.path.split(os.path.realpath(path))
    for tail in companions.tails(name, None):
        yield os.path.join(folder, f"config-{tail}")
    if release and "/" not in release and release not in (".", ".."):
        yield os.path.join(folder, f"config-{release}")
        yield os.path.join(folder, "config")  # as beside a module tree's vmlinuz
        yield f"/lib/modules/{release}/config"
        yield f"/boot/config-{release}"
    if name in ("bzImage", "vmlinux"):  # in a source tree
        yield os.path.join(folder, *([os.pardir] * 3 if name == "bzImage" else []), ".config")


def _read(path: str) -> str | None:
    try:
        with ImageFile(path, "configuration") as file:
            if file.size > MAX_SIZE:
                return None
            return file.read(0, file.size).decode(errors="replace")
    except CorralError:
        return None


def _pieces(kernel: Kernel) -> Iterable[bytes]:
    """The bytes of the ELF file that a kernel is, or is packed in it."""
    from corral.boot.bzimage import BzImage

    if isinstance(kernel, BzImage):
        return kernel.vmlinux_pieces()
    file = kernel.file
    return (file.read(at, min(_PIECE, file.size - at)) for at in range(0, file.size, _PIECE))


def _embedded(pieces: Iterable[bytes]) -> str | None:
    """The text between the two words, unpacked."""
    packed: bytearray | None = None
    tail = b""
    for piece in pieces:
        if packed is None:
            window = tail + piece
            at = window.find(_START)
            if at < 0:
                tail = window[-len(_START) + 1 :]
                continue
            packed = bytearray(window[at + len(_START) :])
        else:
            packed += piece
        if (end := packed.find(_END)) >= 0:
            return _gunzip(bytes(packed[:end]))
        if len(packed) > _MAX_PACKED:
            return None
    return None


def _gunzip(packed: bytes) -> str | None:
    import zlib

    try:
        text = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS).decompress(packed, MAX_SIZE)
    except zlib.error:
        return None
    return text.decode(errors="replace") or None
