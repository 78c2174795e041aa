"""Kernel parameters that Corral gives Linux by itself, each with its reason. The user's come last and win."""

from __future__ import annotations

import os

from corral.arch.x86_64 import layout
from corral.kvm.system import Kind

COMMON = (
    "console=ttyS0",
    "reboot=k",  # by the i8042's reset line, the one that ends a machine here
    "panic=-1",  # a panic ends the guest at once
    "nokaslr",  # the kernel is where its symbols are
    f"corral.status={layout.STATUS_PORT:#x}",
)

# A kernel of a distribution, with its drivers for real PCs.
STOCK = (
    "i8042.nokbd",  # no keyboard controller: do not wait for one
    "i8042.noaux",
    "pci=off",  # no PCI either
    "tsc=reliable",
    "quiet",
)

# On a pagetable KVM supervisor code is interpreted, about two million instructions a second.
INTERPRETED = (
    "clearcpuid=erms,fsrm",  # rep movsb is slow there: one iteration at a time
    "mitigations=off",  # they guard a real CPU's speculation, which interpretation has none of
    "rodata=off",  # seconds of page-table work
    "quiet",  # a byte on the console costs an exit
)


def for_kind(kind: Kind, stock: bool) -> str:
    """The parameters for a kernel on this kind of KVM; `stock`: it is a distribution's, not Corral's small one."""
    parameters = COMMON + (STOCK if stock else ("quiet",))
    if kind is Kind.PAGETABLE:
        parameters += tuple(p for p in INTERPRETED if p not in parameters)
    return " ".join(parameters)


def for_command(words: list[str]) -> str:
    """The parameter that makes Corral's init run a command: one word is a shell's line, more are a program's argv."""
    line = words[0] if len(words) == 1 else " ".join(map(_quoted, words))
    return "corral.run=" + "".join(chr(b) if chr(b) in _PLAIN else f"%{b:02x}" for b in os.fsencode(line))


# What neither a shell nor the kernel, when it splits its command line, gives a meaning to.
_PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-./:@,"


def _quoted(word: str) -> str:
    if word and all(character in _PLAIN for character in word):
        return word
    return "'" + word.replace("'", "'\\''") + "'"
