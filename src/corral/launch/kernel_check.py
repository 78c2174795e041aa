"""What a boot would find of a Linux, and how its kernel code would run here, without a boot: `corral kernel check`."""

from __future__ import annotations

from corral import boot
from corral.arch.x86_64.supervisor import Supervisor, SupervisorMode, supervisor_mode
from corral.errors import ConfigError
from corral.kvm.system import host_kind
from corral.launch import natively, preflight
from corral.launch.kernel import is_ours
from corral.launch.natively import Way
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.launch.natively import Fitness
    from corral.launch.preflight import Obstacle

LINUX = ("bzImage", "vmlinux")
ACPI = {"auto": None, "on": True, "off": False}


@record(frozen=True)
class KernelCheck:
    """What is known of a kernel. Of one that is no Linux nothing but `path`, `description` and `linux`.

    `runs` is how its kernel code runs on this host: "hardware", "native" or "interpreted". `natively` is how it comes
    to run natively on a pagetable KVM that can do so: "itself", "injection" or "none", with the name of the check that
    failed in `failed_check`, and what there is to say in `reason`. `configuration` is where it was found, `root` what
    the root disk holds, `findings` what is missing; `levels` is how many levels of page tables it is built for.
    """

    path: str
    description: str
    linux: bool
    release: str | None = None
    runs: str = ""
    natively: str = ""
    failed_check: str = ""
    reason: str = ""
    configuration: str | None = None
    levels: int | None = None
    acpi: bool = False
    initrd: str | None = None
    root: str | None = None
    findings: tuple[Obstacle, ...] = ()

    @property
    def boots(self) -> bool:
        """Whether it would come to a shell that somebody sees, as far as that can be told."""
        return not any(finding.fatal for finding in self.findings)


def check_kernel(
    path: str,
    disks: Sequence[str] = (),
    initrd: str | None = None,
    acpi: str = "auto",
    cpus: int = 1,
) -> KernelCheck:
    """Looks at the kernel file at `path` for a machine with these images as its disks, the first with the root. Nothing
    is booted, fetched or built. Raises BootError for what is no kernel, ConfigError for options that are none,
    HostError where a library to unpack it is missing."""
    if acpi not in ACPI:
        raise ConfigError(f"--acpi {acpi!r} is none of {', '.join(ACPI)}")
    root = 0 if disks else None
    plan = preflight.Intent(host_kind(), tuple(disks), root, initrd, ACPI[acpi], cpus, is_ours(path))
    with boot.open_kernel(path) as kernel:
        facts = kernel.describe()
        if kernel.kind not in LINUX:
            return KernelCheck(path, str(facts), linux=False)
        fitness = natively.look(path)
        runs = _runs(fitness, supervisor_mode())
        report = preflight.look(kernel, plan, Way.NONE if runs is Supervisor.INTERPRETED else fitness.way)
    config = report.config
    return KernelCheck(
        path,
        str(facts),
        linux=True,
        release=facts.release,
        runs=runs.value,
        natively=fitness.way.value,
        failed_check=fitness.check,
        reason=fitness.reason,
        configuration=config.source if config else None,
        levels=None if config is None else 5 if config["X86_5LEVEL"] == "y" else 4,
        acpi=report.acpi,
        initrd=report.initrd,
        root=None if report.root is None else _root(report),
        findings=report.findings,
    )


def _runs(fitness: Fitness, here: SupervisorMode) -> Supervisor:
    if here.supervisor is Supervisor.NATIVE and fitness.way is Way.NONE:
        return Supervisor.INTERPRETED
    return here.supervisor


def _root(report: preflight.Report) -> str:
    assert report.root is not None
    table = f", of a {report.root.table}" if report.root.table else ""
    return f"/dev/vda{report.root.partition or ''}: {report.root.system or 'nothing that is known'}{table}"
