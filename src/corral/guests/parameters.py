"""Kernel parameters that Corral gives Linux by itself, each with its reason. The user's come last and win."""

from __future__ import annotations

import os

from corral.arch.x86_64 import layout
from corral.kvm.system import Kind

COMMON = (f"corral.status={layout.STATUS_PORT:#x}",)

# All that the kernel says, from its first line on. They come before all other words: Linux says what it has to say so
# far when it meets the second.
EARLY = f"ignore_loglevel earlycon=uart8250,io,{layout.COM1_PORTS[0]:#x}"

# A kernel that is not Corral's small one: a distribution's, with its drivers for real PCs, or the user's. The small
# one has what it needs of this in its configuration, and on a pagetable KVM each word costs it 6 ms.
STOCK = (
    "console=ttyS0",
    "panic=-1",  # a panic ends the guest at once
    "nokaslr",  # the kernel is where its symbols are
    "pci=conf1,noearly",  # nothing is there: do not search it; and with `off` Linux complains that it cannot
    "cryptomgr.notests",  # of its ciphers, which are the same in every start: 2 % of the time to a login prompt
    "tsc=reliable",
    "quiet",
)

# By the reset register. On reduced hardware Linux takes EFI's way by itself, and then that of a BIOS: there is neither.
STOCK_WITH_ACPI = ("reboot=a",)

# What ACPI's tables say otherwise.
STOCK_WITHOUT_ACPI = (
    "acpi=off",  # do not complain that there are none
    "reboot=k",  # by the i8042's reset line, the one that ends a machine here
    "i8042.nokbd",  # no keyboard: do not wait for one
    "i8042.noaux",
)

# Where a pagetable KVM interprets supervisor code, about two million instructions a second.
INTERPRETED = (
    # ERMS and FSRM, by number since names are searched for: `rep movsb` copies byte by byte there. CPUID cannot hide
    # them, and they cost 0.4 s of the small kernel's boot.
    "clearcpuid=297,580",
    "rodata=off",  # 1.7 s of taking page tables apart
)
NONATIVE = "nonative"  # nothing runs natively then, whatever this KVM has
INTERPRETED_SMALL = (NONATIVE,)  # it would run natively if it could: this KVM's way of doing so is not to be relied on
INTERPRETED_STOCK = ("mitigations=off",)  # they guard a real CPU's speculation, which interpretation has none of
# Natively a write to kernel code switches page tables, which traps: with one CPU Linux takes the lock prefixes out of
# seven thousand instructions, 0.07 s of the small kernel's boot, for nothing that can be measured.
NATIVE = (
    "noreplace-smp",
    "clocksource=kvm-clock",  # a snapshot's clock goes on: the time-stamp counter is the host's, and cannot be set
)
# Natively on a pagetable KVM kernel and programs are at one level of the CPU, where they guard nothing.
NATIVE_STOCK = ("mitigations=off",)


def has_acpi(kind: Kind, stock: bool) -> bool:
    """Whether a kernel is best told of its machine by ACPI. The small one reads none of it, by its configuration; and
    the first look at an empty DSDT costs a pagetable KVM more time than the small kernel's whole boot."""
    return stock and kind is Kind.HARDWARE


def for_kind(kind: Kind, stock: bool, acpi: bool = False, native: bool = False) -> str:
    """The parameters for a kernel on this kind of KVM; `stock`: it is not Corral's small one; `native`: it runs on the
    processor there (docs/native.md)."""
    parameters: tuple[str, ...] = COMMON
    if stock:
        parameters += STOCK + (STOCK_WITH_ACPI if acpi else STOCK_WITHOUT_ACPI)
    if kind is Kind.PAGETABLE and not native:
        parameters += INTERPRETED
        parameters += INTERPRETED_STOCK if stock else INTERPRETED_SMALL
    elif kind is Kind.PAGETABLE:
        parameters += NATIVE
        parameters += NATIVE_STOCK if stock else ()
    return " ".join(parameters)


def for_devices(count: int) -> str:
    """What makes Linux find that many virtio devices without ACPI."""
    return " ".join(
        f"virtio_mmio.device={layout.PAGE_SIZE // 1024}K@{layout.virtio_mmio(index):#x}:{layout.VIRTIO_GSIS[index]}"
        for index in range(count)
    )


def for_initrd(kind: Kind, stock: bool) -> str:
    """What suits an initramfs."""
    # Giving the archive's memory back takes 0.25 s for 2 MB where kernel code is interpreted.
    return "retain_initrd" if kind is Kind.PAGETABLE and not stock else ""


def for_root(disk: int, partition: int = 0, stock: bool = True, file_system: str = "") -> str:
    """What makes Linux mount the virtio disk with that number, or a partition of it, as its root. `file_system` is what
    Linux calls that of the root, for an initramfs that has to know it."""
    words = f"root=/dev/vd{chr(ord('a') + disk)}{partition or ''} rw"
    words += f" rootfstype={file_system}" if file_system else ""
    return f"{words} rootwait" if stock else words  # the small one has found its disks before it looks for a root


def for_command(words: list[str]) -> str:
    """The parameter that makes Corral's init run a command where it has no channel to ask for one."""
    return f"corral.run={_encoded(line(words))}"


def line(words: list[str]) -> str:
    """A command as a shell's line: one word is that already, more are a program's argv."""
    return words[0] if len(words) == 1 else " ".join(map(_quoted, words))


def for_channel(session: str) -> str:
    """What tells Corral's init that it has the channel, and whether the session has pipes or a terminal."""
    return f"corral.channel={session}"


AGENT = "corral.agent=1"  # Corral's inits start the agent


def for_network(cards: list[str]) -> str:
    """What an init of Corral's sets up: of each card its address with a prefix, a gateway and a resolver, 0.0.0.0 for
    none."""
    return f"corral.net={'+'.join(cards)}"


def for_host(mounts: list[str], folder: str) -> str:
    """What the init of a guest that looks like its host needs to know; it begins in `folder`."""
    return f"corral.mounts={','.join(map(_encoded, mounts))} corral.cwd={_encoded(folder)}"


def _encoded(text: str) -> str:
    return "".join(chr(b) if chr(b) in _PLAIN else f"%{b:02x}" for b in os.fsencode(text))


# What neither a shell nor the kernel, when it splits its command line, gives a meaning to.
_PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-./:@,"


def _quoted(word: str) -> str:
    if word and all(character in _PLAIN for character in word):
        return word
    return "'" + word.replace("'", "'\\''") + "'"
