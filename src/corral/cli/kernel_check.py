"""corral kernel check: what a boot would find wrong with a kernel, and how its code would run, without a boot."""

from __future__ import annotations

import sys

from corral.arch.x86_64.supervisor import Supervisor, supervisor_mode
from corral.config import parse_disk, parse_number
from corral.files.file import printable
from corral.launch.kernel_check import KernelCheck, check_kernel
from corral.launch.natively import Way

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.options import Arguments

NOT_BOOTABLE = 2
_NATIVELY = {
    Way.ITSELF.value: "by itself",
    Way.INJECTION.value: "by injection",
}


def run(arguments: Arguments, path: str) -> int:
    """Prints what is known, and what is missing. Returns the exit status. Raises BootError, ConfigError, HostError."""
    values = arguments.values
    disks = [parse_disk(text).path for text in arguments.every.get("disk", [])]
    cpus = parse_number(values.get("cpus", "1"), "--cpus")
    found = check_kernel(path, disks, values.get("initrd"), values.get("acpi", "auto"), cpus)
    print(_json(found) if "json" in values else _text(found, bool(disks)))
    sys.stdout.flush()
    return 0 if found.boots else NOT_BOOTABLE


def _json(found: KernelCheck) -> str:
    import json

    values = {name: getattr(found, name) for name in KernelCheck.__annotations__}
    values["findings"] = [{"fatal": finding.fatal, "text": finding.text} for finding in found.findings]
    return json.dumps(values | {"boots": found.boots}, indent=2)


def _text(found: KernelCheck, has_disks: bool) -> str:
    if not found.linux:
        return f"kernel         {found.description}; it is no Linux, so there is nothing more to say"
    source = found.configuration or "unknown: neither beside the kernel nor in it"
    lines = [
        f"kernel         {found.description}",
        f"kernel code    {_kernel_code(found)}",
        f"configuration  {source}",
        f"told by        {'ACPI tables' if found.acpi else 'kernel parameters and an MP table'}",
    ]
    if found.initrd:
        lines.append(f"initramfs      {printable(found.initrd)}")
    elif not has_disks:
        lines.append("initramfs      Corral's own")
    if found.root:
        lines.append(f"root           {found.root}")
    if found.levels:
        levels = "can do five levels, is" if found.levels == 5 else "is"
        lines.append(f"page tables    {levels} entered with four, enough for 64 TiB")
    for finding in found.findings:
        lines.append(f"{'missing' if finding.fatal else 'note'}: {finding.text}")
    return "\n".join(lines)


def _kernel_code(found: KernelCheck) -> str:
    """How it runs here; and where it cannot run natively, why."""
    way = _NATIVELY.get(found.natively)
    if found.runs == Supervisor.HARDWARE.value:
        without = f"natively, {way}" if way else f"not natively: {_why_not(found)}"
        return f"runs on the CPU, by VMX or SVM; without those {without}"
    if found.runs == Supervisor.NATIVE.value:
        return f"runs natively, {way}: {found.reason}"
    if way:
        return f"is interpreted: {supervisor_mode().reason}; it could run natively, {way}"
    return f"is interpreted: {_why_not(found)}"


def _why_not(found: KernelCheck) -> str:
    return f"{found.reason} (check: {found.failed_check})"
