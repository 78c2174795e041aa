"""How distributions name what belongs to a kernel, in the folder that it is in."""

from __future__ import annotations

_KERNELS = ("vmlinuz-", "vmlinux-", "bzImage-", "kernel-")


def tails(name: str, release: str | None) -> list[str]:
    """What the names of its companions end in, likeliest first. `release` is the kernel's word, hostile."""
    found = [name.removeprefix(prefix) for prefix in _KERNELS if name.startswith(prefix)]
    if release and "/" not in release and release not in (".", "..", *found):
        found.append(release)
    return found


def initramfs(name: str, release: str | None) -> list[str]:
    """The names that its initramfs may have, likeliest first."""
    found = []
    for tail in tails(name, release):
        found += [f"initrd.img-{tail}", f"initramfs-{tail}.img", f"initrd-{tail}", f"initrd-{tail}.img"]
        found += [f"initramfs-{tail}"]
    return found if "-" in name else [*found, "initrd.img", "initramfs.img", "initrd"]
