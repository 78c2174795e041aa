"""VMCOREINFO: the lines by which tools know a kernel in a core file (Documentation/admin-guide/kdump/vmcoreinfo.rst).

A kernel that has crash dumps keeps them in its memory; for one that has not, as Corral's small kernel, they are made of
its symbols.
"""

from __future__ import annotations

from corral.errors import CorralError
from corral.files import elf_notes
from corral.introspect.kernel import BANNER, MOST_NOTE, DamagedKernel, NotLinux
from corral.memory import GuestMemoryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.introspect.kernel import GuestKernel

_MOST_NOTES = 1 << 16  # bytes
_SYMBOLS = (
    *("init_uts_ns", "_stext", "init_top_pgt", "node_data", "mem_section", "vmap_area_list"),
    # What finds the names of its symbols, where there is no debug information.
    *("kallsyms_names", "kallsyms_num_syms", "kallsyms_token_table", "kallsyms_token_index", "kallsyms_offsets"),
    "kallsyms_relative_base",
    *("prb", "printk_rb_static", "log_buf", "log_buf_len"),
)


def text(kernel: GuestKernel) -> bytes:
    """At most 4 KiB of lines. Raises NotLinux, DamagedKernel."""
    try:
        return kernel.note or _kept(kernel) or _made(kernel)
    except GuestMemoryError as error:
        raise DamagedKernel(f"the guest's kernel has no VMCOREINFO that can be read: {error}") from None


def _kept(kernel: GuestKernel) -> bytes | None:
    if not kernel.has("vmcoreinfo_data") or not kernel.has("vmcoreinfo_size"):
        return None
    place, size = kernel.u64(kernel.symbol("vmcoreinfo_data")), kernel.u64(kernel.symbol("vmcoreinfo_size"))
    if not place or not 0 < size <= MOST_NOTE:
        return None
    found = kernel.read(place, size)
    return found if found.startswith(b"OSRELEASE=") else None


def _made(kernel: GuestKernel) -> bytes:
    lines = [f"OSRELEASE={release(kernel)}"]
    if identity := build_id(kernel):
        lines.append(f"BUILD-ID={identity.hex()}")
    lines.append("PAGESIZE=4096")
    lines += [f"SYMBOL({name})={kernel.symbol(name):x}" for name in _SYMBOLS if kernel.has(name)]
    lines.append(f"SYMBOL(swapper_pg_dir)={kernel.symbol('init_top_pgt'):x}")
    lines.append(f"NUMBER(phys_base)={kernel.phys_base}")
    lines.append(f"NUMBER(pgtable_l5_enabled)={int(kernel.has_five_levels)}")
    lines.append(f"KERNELOFFSET={kernel.offset:x}")
    lines.append("NUMBER(KERNEL_IMAGE_SIZE)=1073741824")
    lines.append("NUMBER(sme_mask)=0")
    return "".join(f"{line}\n" for line in lines).encode("ascii", "replace")


def release(kernel: GuestKernel) -> str:
    """As `uname -r` tells it. Raises NotLinux."""
    words = kernel.text(kernel.symbol("linux_banner") + len(BANNER), 65).split()
    if not words:
        raise NotLinux("the guest's kernel does not say which one it is")
    return words[0]


def build_id(kernel: GuestKernel) -> bytes | None:
    """By which debug information is known to be a kernel's (ELF's NT_GNU_BUILD_ID); None where it has none."""
    try:
        start, end = kernel.symbol("__start_notes"), kernel.symbol("__stop_notes")
        notes = kernel.read(start, min(max(0, end - start), _MOST_NOTES))
    except (CorralError, ValueError):
        return None
    found = elf_notes.build_id(notes)
    return notes[found[0] : sum(found)] if found else None
