"""A kernel, or an initramfs beside a good one: it is loaded, or refused in one line."""

from __future__ import annotations

from corral import boot
from corral.boot import initramfs_content
from corral.errors import BootError, HostError
from corral.files.file import ImageFile
from corral.memory import GuestMemory
from tests.fuzz.targets import MemoryFile
from tests.support import kernels

MIB = 1 << 20
LONGEST = 8192
CONCERNED = (
    *("corral.boot.bzimage", "corral.boot.initramfs", "corral.boot.initramfs_content", "corral.boot.kernel"),
    *("corral.boot.multiboot", "corral.boot.multiboot2", "corral.boot.pvh", "corral.boot.real_mode"),
    *("corral.boot.vmlinux", "corral.boot.unpacked", "corral.boot.not_a_kernel", "corral.boot.elf_sections"),
    *("corral.files.elf", "corral.files.decompress"),
)

_file, _good = MemoryFile(), MemoryFile()
_memory = GuestMemory(32 * MIB)
_PROTOCOLS = (None, "linux", "pvh", "multiboot", "multiboot2")
_VMLINUX = kernels.vmlinux(segments=(kernels.text_segment(), kernels.pvh_note(kernels.LOAD_ADDRESS)))
_good.put(_VMLINUX)


def one(data: bytes) -> None:
    """The first byte: as what it is taken."""
    if len(data) < 2:
        return
    way, path = data[0], _file.put(data[1:])
    message = ""
    try:
        if way < 0x80:
            with boot.open_kernel(path, _PROTOCOLS[way % len(_PROTOCOLS)]) as kernel:
                assert str(kernel.describe()).isprintable()
                entry = kernel.load(_memory, b"quiet", None)
                _memory.view(entry.rip, 1).release()
        else:
            with ImageFile(path, "initrd") as file:
                initramfs_content.read(file)
            with boot.open_kernel(_good.path) as kernel:
                kernel.load(_memory, b"quiet", path)
    except (BootError, HostError) as error:
        message = str(error)
    assert message.isprintable(), message


_ARCHIVE = kernels.cpio([("init", b"#!/bin/sh\n"), ("lib/modules/1/a.ko", b"x" * 300)])
SEEDS = [
    b"\0" + _VMLINUX,
    b"\2" + kernels.pvh_guest(),
    b"\0" + kernels.multiboot_elf(kernels.multiboot()),
    b"\0" + kernels.multiboot((MIB, MIB, 0, MIB + 4096, MIB + 32), code=bytes(300)),
    b"\0" + kernels.multiboot_elf(kernels.multiboot2([kernels.multiboot2_tag(1, 1, 3, 6)])),
    b"\0"
    + kernels.multiboot2([kernels.multiboot2_tag(2, MIB, MIB, 0, 0), kernels.multiboot2_tag(3, MIB)], code=bytes(300)),
    b"\0" + kernels.unpacked_program(),
    b"\0#!/bin/sh\n",
    b"\0" + b"\x7fELF".ljust(64, b"\0"),
    b"\0" + bytes(0x1FE) + b"\x55\xaa" + bytes(512),
    *(b"\0" + kernels.bzimage(kernels.payload(_VMLINUX, name)) for name in kernels.COMPRESSIONS),
    b"\x80" + _ARCHIVE,
    *(b"\x80" + pack(_ARCHIVE) for pack in kernels.COMPRESSIONS.values()),
]
