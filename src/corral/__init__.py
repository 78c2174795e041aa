"""Corral: a type-2 hypervisor. Start reading at machine.py; researchers at docs/research/python.md.

    import corral

    with corral.linux() as vm:
        vm.console.expect("# ", timeout=60)
        print(vm.regs)

`Machine` is one guest, of a `MachineConfig`; `linux()` makes the one that `corral boot` would. `ExitTrace`, `Profiler`
and `Debugger` look at any machine. Errors are CorralError and what is derived from it.
"""

__version__ = "0.1.0"

# Imported when they are asked for: a plain boot needs none of it. __init__.pyi has them for type checkers and editors.
_AT = {
    "BootError": "errors",
    "Cause": "core.exits",
    "ClosedError": "errors",
    "ConfigError": "errors",
    "CorralError": "errors",
    "Debugger": "debug.debugger",
    "DiskConfig": "config",
    "ExitTrace": "observe.exit_trace",
    "GuestError": "errors",
    "GuestMemoryError": "memory",
    "GuestTimeout": "errors",
    "HostError": "errors",
    "KernelCheck": "launch.kernel_check",
    "KvmError": "errors",
    "Machine": "script.machine",
    "MachineConfig": "config",
    "Outcome": "core.exits",
    "Profiler": "observe.profiler",
    "RngConfig": "config",
    "Sandbox": "script.sandbox",
    "ShareConfig": "config",
    "VsockConfig": "config",
    "check_kernel": "launch.kernel_check",
    "linux": "script.linux",
    "restore": "script.restored",
    "tiny_guest": "guests.tiny",
}
_CALLED = {"Machine": "ScriptedMachine"}  # where it is, the other Machine is the one without a script

__all__ = list(_AT)


def __dir__() -> list[str]:
    return sorted({*globals(), *_AT} - {"_AT", "_CALLED"})


def __getattr__(name: str) -> object:
    if name not in _AT:
        raise AttributeError(f"module 'corral' has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(f"corral.{_AT[name]}"), _CALLED.get(name, name))
    globals()[name] = found
    return found
