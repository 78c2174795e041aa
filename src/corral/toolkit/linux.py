"""The Linux that `corral boot` boots, for a script."""

from __future__ import annotations

from corral.errors import ConfigError
from corral.toolkit.scripted import ScriptedMachine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def linux(
    *command: str,
    kernel: str | None = None,
    initrd: str | None = None,
    append: str = "",
    memory: str | None = None,
    cpus: int = 1,
    disks: Sequence[str] = (),
    root: str | int | None = None,
    acpi: str = "auto",
) -> ScriptedMachine:
    """A machine, not started, with what these options of `corral boot` say (`memory="2G"`, `disks=["a.img,ro"]`), and
    Corral's init to run `command`, or a shell.

    with corral.linux() as vm:
        vm.console.expect("# ", timeout=60)

    Raises what `corral boot` reports. The first time it fetches or builds a kernel, which takes a while.
    """
    from corral.cli.boot import configure

    options = {"initrd": initrd, "append": append, "memory": memory, "root": root, "acpi": acpi, "cpus": cpus}
    words = [] if kernel is None else [kernel]
    for name, value in options.items():
        if value not in (None, ""):
            words += [f"--{name}", str(value)]
    for disk in disks:
        words += ["--disk", disk]
    config = configure([*words, "--", *command] if command else words)
    if config is None:
        raise ConfigError(f"{kernel!r} is no kernel")
    return ScriptedMachine(config)
