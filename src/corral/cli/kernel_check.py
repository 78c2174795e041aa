"""corral kernel check: what a boot would find wrong with a kernel, without one."""

from __future__ import annotations

import sys

from corral import boot
from corral.boot import preflight
from corral.boot.file import printable
from corral.cli.boot import is_ours, number
from corral.config import parse_disk
from corral.errors import ConfigError
from corral.kvm.system import host_kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.boot.preflight import Plan, Report
    from corral.cli.options import Arguments

NOT_BOOTABLE = 2
_ACPI = {"auto": None, "on": True, "off": False}


def run(arguments: Arguments, path: str) -> int:
    """Prints what is known, and what is missing. Returns the exit status. Raises BootError, ConfigError."""
    values = arguments.values
    acpi = values.get("acpi", "auto")
    if acpi not in _ACPI:
        raise ConfigError(f"--acpi {acpi!r} is none of {', '.join(_ACPI)}")
    disks = tuple(parse_disk(text).path for text in arguments.every.get("disk", []))
    root = 0 if disks else None
    cpus = number(values.get("cpus", "1"), "--cpus")
    plan = preflight.Plan(host_kind(), disks, root, values.get("initrd"), _ACPI[acpi], cpus, is_ours(path))
    with boot.open_kernel(path) as kernel:
        if kernel.kind not in ("bzImage", "vmlinux"):
            print(f"kernel         {kernel.describe()}; it is no Linux, so there is nothing more to say")
            return 0
        report = preflight.look(kernel, plan)
    print(_text(report, plan))
    for finding in report.findings:
        print(f"{'missing' if finding.fatal else 'note'}: {finding.text}")
    sys.stdout.flush()
    return NOT_BOOTABLE if any(finding.fatal for finding in report.findings) else 0


def _text(report: Report, plan: Plan) -> str:
    config = report.config.source if report.config else "unknown: neither beside the kernel nor in it"
    lines = [f"kernel         {report.facts}", f"configuration  {config}"]
    lines.append(f"told by        {'ACPI tables' if report.acpi else 'kernel parameters and an MP table'}")
    if report.initrd:
        lines.append(f"initramfs      {printable(report.initrd)}")
    elif plan.root is None:
        lines.append("initramfs      Corral's own")
    if report.root is not None and plan.root is not None:
        disk = f"/dev/vd{chr(ord('a') + plan.root)}{report.root.partition or ''}"
        table = f", of a {report.root.table}" if report.root.table else ""
        lines.append(f"root           {disk}: {report.root.system or 'nothing that is known'}{table}")
    if report.config:
        levels = "can do five levels, is" if report.config["X86_5LEVEL"] == "y" else "is"
        lines.append(f"page tables    {levels} entered with four, enough for 64 TiB")
    return "\n".join(lines)
