from corral.config import DiskConfig as DiskConfig
from corral.config import MachineConfig as MachineConfig
from corral.config import RngConfig as RngConfig
from corral.config import ShareConfig as ShareConfig
from corral.config import VsockConfig as VsockConfig
from corral.core.exits import Cause as Cause
from corral.core.exits import Outcome as Outcome
from corral.debug.debugger import Debugger as Debugger
from corral.errors import BootError as BootError
from corral.errors import ClosedError as ClosedError
from corral.errors import ConfigError as ConfigError
from corral.errors import CorralError as CorralError
from corral.errors import GuestError as GuestError
from corral.errors import GuestTimeout as GuestTimeout
from corral.errors import HostError as HostError
from corral.errors import KvmError as KvmError
from corral.guests.tiny import tiny_guest as tiny_guest
from corral.launch.kernel_check import KernelCheck as KernelCheck
from corral.launch.kernel_check import check_kernel as check_kernel
from corral.memory import GuestMemoryError as GuestMemoryError
from corral.observe.exit_trace import ExitTrace as ExitTrace
from corral.observe.profiler import Profiler as Profiler
from corral.script.linux import linux as linux
from corral.script.machine import ScriptedMachine as Machine
from corral.script.restored import restore as restore
from corral.script.sandbox import Sandbox as Sandbox

__all__ = [
    "BootError",
    "Cause",
    "ClosedError",
    "ConfigError",
    "CorralError",
    "Debugger",
    "DiskConfig",
    "ExitTrace",
    "GuestError",
    "GuestMemoryError",
    "GuestTimeout",
    "HostError",
    "KernelCheck",
    "KvmError",
    "Machine",
    "MachineConfig",
    "Outcome",
    "Profiler",
    "RngConfig",
    "Sandbox",
    "ShareConfig",
    "VsockConfig",
    "check_kernel",
    "linux",
    "restore",
    "tiny_guest",
]

__version__: str
