"""The likely cause of a guest's end, in plain words."""

from __future__ import annotations

import re

from corral.core.exits import Cause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.debug.report.guest import DeadGuest

_PANIC = re.compile(rb"Kernel panic - not syncing: ([^\r\n]*)")
_LONGEST = 160  # characters of what a guest said

_GENERAL = {
    Cause.TRIPLE_FAULT: "An exception could not be delivered, nor the double fault after it.",
    Cause.EMULATION: "This KVM interprets kernel code and does not know this instruction; Corral does not complete it "
    "either (docs/assist.md tells what it completes).",
    Cause.FAIL_ENTRY: "The CPU refused the guest's state; a bug in Corral or in KVM, so please report it.",
    Cause.INTERNAL_ERROR: "KVM gave up; its kernel log (dmesg) may tell more.",
    Cause.UNKNOWN_EXIT: "This version of Corral has no handler for the exit.",
}


def panic(console: bytes) -> str | None:
    """What Linux said when it panicked, printable; None when it did not."""
    found = _PANIC.search(console)
    if not found:
        return None
    text = found[1].decode("ascii", "replace").removesuffix("]---").strip()
    return "".join(c if c.isprintable() else "." for c in text)[:_LONGEST]


def likely(guest: DeadGuest, cause: Cause | None, console: bytes) -> list[str]:
    """Sentences, the most general first."""
    said = panic(console)
    if said is not None:
        return [f"Linux panicked: {said}", *_of_panic(said)]
    if cause is None:
        return []
    if cause is Cause.RESET:
        return [
            "The guest reset the machine and said nothing of why. Linux does that after a panic (see its console), "
            "when somebody asks for a reboot, and very early when it finds that this CPU lacks something."
        ]
    sentences = [_GENERAL[cause]] if cause in _GENERAL else []
    if guest.was_reset:
        return [*sentences, "This KVM shows the registers of the reset after it, not those that failed."]
    if cause is Cause.TRIPLE_FAULT:
        sentences += _of_triple_fault(guest)
    return sentences


def _of_panic(said: str) -> list[str]:
    if "Unable to mount root fs" in said:
        return [
            "It found no root file system: name a disk that has one (--disk, --root) or an initramfs (--initrd). "
            "corral kernel check tells what a kernel lacks for a disk."
        ]
    if "No working init" in said or "Requested init" in said:
        return [
            "Its root file system has no program to start, as /sbin/init: is it the right disk or partition (--root)? "
            "--append init=/path names another program."
        ]
    if "Attempted to kill init" in said:
        return ["Its init ended, which it never must: what it said last tells why."]
    if "Out of memory" in said or "out of memory" in said:
        return ["It ran out of memory: give it more with --memory."]
    return []


def _of_triple_fault(guest: DeadGuest) -> list[str]:
    """What of the way to a handler is not there."""
    found = []
    sregs = guest.sregs
    if guest.translate(guest.rip) is None:
        found.append(f"It was at {guest.rip:#x}, which is not mapped to RAM: it jumped to where no code is.")
    if sregs.idt.limit < 8 * 2 or not guest.read(int(sregs.idt.base), 8):
        found.append("It has no interrupt table, or one that is not mapped, so that no exception has a handler.")
    if guest.translate(guest.rsp - 8 & (1 << 64) - 1) is None:
        found.append(f"Its stack pointer, {guest.rsp:#x}, is not mapped to RAM, so that no exception can be delivered.")
    if not found:
        found.append(
            "Code, stack and interrupt table are mapped; a handler itself, its segment or its stack may not be."
        )
    return found
