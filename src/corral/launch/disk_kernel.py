"""The kernel for a disk that is named without one: that of its own system, or Corral's small one."""

from __future__ import annotations

from corral.errors import SCARCE, BootError, ConfigError
from corral.kvm.system import Kind, host_kind
from corral.launch import preflight
from corral.launch.events import Notice, steps
from corral.launch.kernel import Chosen, intent, of_linux, root_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.images.boot_folder import BootFiles
    from corral.images.root import Root
    from corral.launch.draft import Draft
    from corral.launch.events import Tell

IMAGE, SMALL = "image", "small"  # variants


def choose(draft: Draft, number: int, tell: Tell) -> Chosen:
    """Looks at the disk first: what cannot be is told before anything is built. Raises BootError, ConfigError,
    HostError."""
    from corral.guests import default, kernel
    from corral.images import boot_folder, root
    from corral.images.volumes import DiskVolumes

    request, wanted = draft.request, draft.request.variant
    if wanted not in (None, IMAGE, SMALL):
        raise ConfigError(f"--kernel {wanted!r}: a disk boots with {IMAGE}, the kernel on it, or {SMALL}, Corral's own")
    path = draft.machine.disks[number].path
    choice = default.small(host_kind())
    small = intent(draft, False, number, small=True)
    try:
        with DiskVolumes(path) as disk:
            found = root.of(disk)
            faults = preflight.small_kernel(kernel.configuration(), small, None if small.own_root else found)
            own = None if wanted == SMALL else boot_folder.find(disk, found)
            if wanted == IMAGE and own is None:
                raise BootError(
                    f"disk {path!r}: no kernel in a /boot that Corral can read (on ext2, ext3 or ext4); name a KERNEL"
                )
            if own and (wanted == IMAGE or _is_better(faults, found)):
                return _image_kernel(own, path, draft, number, tell)
    except OSError as error:
        if error.errno in SCARCE:
            raise
        raise BootError(f"disk {path!r} cannot be read: {error.strerror}; check the disk below it") from None
    preflight.refuse(faults)
    for fault in faults:
        tell(Notice(fault.text))
    got = choice.get(steps(tell))
    tell(Notice(f"Linux {got.version}, {choice.why}", routine=True))
    report = preflight.Report(None, None, False, "none", found, ())
    return Chosen(got.path, False, False, request.initrd or "none", root_words(number, report, small=True))


def _is_better(faults: list[preflight.Obstacle], root: Root) -> bool:
    """Whether the disk's own kernel is to be taken, being there. On a pagetable KVM only if the small one, which starts
    in less time, may not do: systemd loads modules, which are its own kernel's."""
    if host_kind() is Kind.HARDWARE or any(fault.fatal for fault in faults):
        return True
    return root.uses_systemd


def _image_kernel(own: BootFiles, disk: str, draft: Draft, number: int, tell: Tell) -> Chosen:
    from corral.launch import image_kernel

    path = image_kernel.copy(own, disk, steps(tell))
    tell(Notice(f"{own.kernel.rpartition('/')[2]}, the disk's own kernel; --kernel {SMALL} has Corral's"))
    plan = intent(draft, draft.request.acpi, number, small=False)
    return of_linux(path, None, plan, draft.request.parameters, tell, own.words)
