"""The initrd: placed as high in RAM as the kernel can reach.

Source: boot.rst, ramdisk_image and initrd_addr_max.
"""

from __future__ import annotations

from corral.arch.x86_64 import layout
from corral.boot.ram import free_windows, size_text
from corral.files.file import Flaw, ImageFile
from corral.memory import RAM_HOLE, RAM_HOLE_END

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from corral.memory import GuestMemory


def load_initrd(
    memory: GuestMemory,
    path: str | os.PathLike[str],
    taken: list[tuple[int, int]],
    limit: int,
    above_4g: bool,
    any_content: bool = False,
) -> tuple[int, int]:
    """Place the initrd in RAM beside `taken` ranges (start, end); returns its (address, size).

    It ends at or below `limit`, page aligned; where that has no room and `above_4g` allows it, above 4 GiB.
    `any_content`: the guest is not Linux, so do not check what the file holds. Raises BootError naming the
    file.
    """
    with ImageFile(path, "initrd") as file:
        try:
            address = find_place(memory, file.size, taken, limit, above_4g)
            if not any_content:
                from corral.boot import initramfs

                initramfs.check(file)
            file.read_into(0, memory.view(address, file.size))
        except Flaw as flaw:
            raise file.error(str(flaw)) from None
        return address, file.size


def find_place(memory: GuestMemory, size: int, taken: list[tuple[int, int]], limit: int, above_4g: bool) -> int:
    windows = list(free_windows(memory, taken, layout.HIGH_MEMORY, min(limit, RAM_HOLE)))
    if above_4g:
        windows += free_windows(memory, taken, RAM_HOLE_END, 1 << 64)
    largest = 0
    for low, high in windows:
        address = (high - size) & ~(layout.PAGE_SIZE - 1)
        if address >= low:
            return address
        largest = max(largest, high - low)
    needed = size_text(memory.size + size - largest + layout.PAGE_SIZE)
    raise Flaw(
        f"is {size_text(size)}, the guest has room for {largest >> 20}M of its {size_text(memory.size)}; "
        f"give it {needed} with --memory, or use a smaller initrd"
    )
