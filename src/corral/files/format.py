"""Images that are not raw, told by their first bytes, only ever to refuse them.

Corral takes every image as raw. A format that came from an image's content would be the guest's choice, since a guest
writes what it likes to the start of its raw disk: a qcow2 header there that names /etc/shadow as its backing file. So
nothing behind these magic numbers is ever read; a disk that begins with one is refused until its user says that it
is raw, and then it is.
"""

from __future__ import annotations

from corral.files import magic

HEAD_SIZE = 512  # holds every magic number of an image
_QEMU = {"VMDK": "vmdk", "VHD": "vpc", "VHDX": "vhdx", "VDI": "vdi", "QED": "qed", "Parallels": "parallels"}


def foreign_format(head: bytes) -> str | None:
    """The format whose magic number is in `head` (HEAD_SIZE bytes from the start, or all of a shorter file); None for
    what can only be raw."""
    return magic.named(head, magic.IMAGES) or None


def refusal(form: str, override: str) -> str:
    """What is wrong with an image that begins like `form`, in one line; `override` says that it is raw all the same.

    Its order matters: converting a raw disk whose guest wrote that header hands the guest a file of the host.
    """
    qemu = _QEMU.get(form, form.lower())
    return (
        f"not a raw image: {form}; if it came to you as {form}, convert it: qemu-img convert -f {qemu} -O raw; "
        f"if a guest has had it as its raw disk, the guest wrote that: never convert it, say {override}"
    )
