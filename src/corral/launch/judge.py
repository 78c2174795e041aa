"""What would end a start anyway, told before minutes go by in which something is fetched or built for it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.launch.draft import Draft


def judge(draft: Draft) -> None:
    """Opens what the machine needs of the host, and lets go of it again. Raises ConfigError for a root disk that there
    is not, HostError, BootError, KvmError."""
    machine, _ = draft.machine, draft.root
    if any(card.backend == "user" for card in draft.request.nets):
        from corral.backends import passt

        passt.find()
    if not (machine.disks or machine.shares or draft.is_named):
        return
    from corral.kvm.system import System

    with System():
        pass
    if machine.disks:
        from corral.backends.disk_image import DiskImage

        for disk in machine.disks:
            DiskImage(disk).close()
    if machine.shares:
        from corral.backends import folder_server

        for share in machine.shares:
            folder_server.try_out(share)
