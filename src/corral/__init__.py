"""Corral: a type-2 hypervisor. Start reading at machine.py; researchers at docs/research/python.md."""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import DiskConfig, MachineConfig
    from corral.toolkit.linux import linux
    from corral.toolkit.scripted import ScriptedMachine as Machine

__all__ = ["DiskConfig", "Machine", "MachineConfig", "linux"]

# Imported when they are asked for: a plain boot needs none of it.
_AT = {
    "DiskConfig": ("corral.config", "DiskConfig"),
    "Machine": ("corral.toolkit.scripted", "ScriptedMachine"),
    "MachineConfig": ("corral.config", "MachineConfig"),
    "linux": ("corral.toolkit.linux", "linux"),
}


def __getattr__(name: str) -> object:
    if name not in _AT:
        raise AttributeError(f"module 'corral' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _AT[name]
    return getattr(import_module(module), attribute)
