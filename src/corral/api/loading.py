"""From PUT /snapshot/load to the request of a guest that goes on."""

from __future__ import annotations

from corral.api import bodies, pair
from corral.api.fault import Fault, lacks
from corral.api.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.api.settings import Given
    from corral.launch.request import BootRequest


def request(given: Given) -> tuple[Settings, BootRequest]:
    """What the guest in the snapshot was, as far as that is known, and the request. Raises Fault."""
    backend, path = given.get("mem_backend"), given.get("mem_file_path")
    if (backend is None) == (path is None):
        raise Fault("Either `mem_backend` or `mem_file_path` must be there, and not both.")
    if backend:
        if backend["backend_type"] == "Uffd":
            raise lacks("a memory backend of type Uffd", "File maps the snapshot, and reads what is touched")
        path = backend["backend_path"]
    found = pair.read(given["snapshot_path"], path)
    settings = _settings(found.settings)
    for override in given.get("network_overrides", []):
        card = settings.interfaces.get(override["iface_id"])
        if card is None:
            raise Fault(f"The guest in the snapshot has no network interface {override['iface_id']}.")
        settings.set_interface(card | {"host_dev_name": override["host_dev_name"]})
    if "vsock_override" in given:
        if settings.vsock is None and found.settings:
            raise Fault("The guest in the snapshot has no vsock.")
        settings.vsock = {"guest_cid": 3} | (settings.vsock or {}) | given["vsock_override"]

    from corral.config import VsockConfig
    from corral.launch.request import BootRequest

    others = (VsockConfig(settings.vsock["uds_path"], settings.vsock["guest_cid"]),) if settings.vsock else ()
    return settings, BootRequest(snapshot=found.memory, nets=settings.nets(), others=others)


def _settings(text: Given) -> Settings:
    """Of a document, which may be anybody's: it is checked as requests are. Files of drives are looked for when the
    guest goes on. Raises Fault."""
    settings = Settings()
    checked = bodies.FULL.check(text, "the snapshot's settings")
    settings.machine = checked.get("machine-config", settings.machine)
    settings.vsock = checked.get("vsock")
    settings.entropy = checked.get("entropy")
    settings.drives = {one["drive_id"]: one for one in checked.get("drives", [])}
    for one in checked.get("network-interfaces", []):
        settings.set_interface(one)
    return settings
