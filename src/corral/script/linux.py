"""The Linux that `corral boot` boots, for a script."""

from __future__ import annotations

from corral.errors import ConfigError
from corral.script.machine import ScriptedMachine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.network import NetConfig


def linux(
    *command: str,
    kernel: str | None = None,
    initrd: str | None = None,
    append: str = "",
    memory: str | int | None = None,
    cpus: int | str = 1,
    disks: str | Sequence[str] = (),
    shares: str | Sequence[str] = (),
    nets: str | Sequence[str] = (),
    publish: str | Sequence[str] = (),
    allow: str | Sequence[str] = (),
    deny: str | Sequence[str] = (),
    root: str | int | None = None,
    acpi: str = "auto",
    numa: str | None = None,
    pin: str | None = None,
    pipes: bool = False,
    jail: bool | str | Sequence[str] = False,
) -> ScriptedMachine:
    """A machine, not started, with what these options of `corral boot` say, and Corral's init to run `command`, or a
    shell: `memory="2G"` (a number is MiB), `disks=["a.img,ro", "b.img"]` or `disks="a.img"`, `shares="src,tag=src,rw"`,
    `cpus="sockets=2,cores=2"`, `numa="spread"`, `pin="0-3"`, `nets="user"`, `publish=["8080:80"]`, `allow="host:80"`.

    with corral.linux() as vm:
        vm.console.expect("# ", timeout=60)

    `pipes`: the command or shell has no terminal, but standard streams that are apart, `vm.streams`:

    with corral.linux("ls /nowhere", pipes=True) as vm:
        print(vm.wait(60).status, vm.streams.output, vm.streams.errors)

    `jail` is Machine's, or a list of what that takes as `allow`.

    Raises what `corral boot` reports. The first time it fetches or builds a kernel, which takes a while.
    """
    from corral.config import parse_disk, parse_share, parse_size
    from corral.launch.configure import configure
    from corral.launch.parse import parse_acpi, parse_cpus, parse_placement
    from corral.launch.request import BootRequest

    count, shape = parse_cpus(str(cpus))
    config = configure(
        BootRequest(
            kernel=kernel,
            command=command or None,
            session="pipes" if pipes else "terminal",
            initrd=initrd or None,
            parameters=append,
            memory=None if memory in (None, "") else parse_size(str(memory)),
            cpus=count,
            disks=tuple(parse_disk(disk) for disk in _as_sequence(disks)),
            shares=tuple(parse_share(share) for share in _as_sequence(shares)),
            nets=_cards(nets, publish, allow, deny),
            root=None if root in (None, "") else str(root),
            acpi=parse_acpi(acpi),
            placement=parse_placement(shape, numa or None, pin or None),
        )
    )
    if pipes and not config.channel:
        raise ConfigError("pipes=True takes a kernel and an initramfs of Corral's; leave kernel and initrd out")
    word, allowed = (jail, ()) if isinstance(jail, (bool, str)) else (True, jail)
    return ScriptedMachine(config, jail=word, allow=allowed)


def _cards(
    nets: str | Sequence[str], publish: str | Sequence[str], allow: str | Sequence[str], deny: str | Sequence[str]
) -> tuple[NetConfig, ...]:
    if not (nets or publish or allow or deny):
        return ()
    from corral import network

    found = network.parse_all(
        list(_as_sequence(nets)), list(_as_sequence(publish)), list(_as_sequence(allow)), list(_as_sequence(deny))
    )
    if not any(card.backend == "shared" for card in found):
        return found
    from corral.backends.shared_network import joined

    return joined(found, "")


def _as_sequence(given: str | Sequence[str]) -> Sequence[str]:
    """One is as good as a list of one."""
    return [given] if isinstance(given, str) else given
