"""How a guest's kernel code runs on this host.

A pagetable KVM interprets it, unless it has native supervisor mode and that passes a self-test of two milliseconds. The
result is kept in the user's cache, for as long as the host and its KVM are the same.
"""

from __future__ import annotations

import os
import stat

from corral.errors import HostError
from corral.kvm.system import Kind, host_kind
from corral.native import SHIM, ffi, lib
from corral.startup.enums import Enum
from corral.startup.record import record
from corral.user_cache import folder

_MODULES = "/sys/module"


class Supervisor(Enum):
    """Where a guest's kernel code runs."""

    HARDWARE = "hardware"  # on the CPU, by VMX or SVM
    NATIVE = "native"  # on the CPU at CPL 3, once the guest asks a pagetable KVM for it
    INTERPRETED = "interpreted"  # in KVM, instruction by instruction


@record(frozen=True)
class SupervisorMode:
    """`reason` is a sentence for a person: why it is so."""

    supervisor: Supervisor
    reason: str


_told: list[SupervisorMode] = []  # what this process has been told, one at most


def supervisor_mode(again: bool = False) -> SupervisorMode:
    """How kernel code runs here, looked for once in a process, or `again`. Runs the self-test on a pagetable KVM when
    the cache has no result, or `again`. Raises nothing: what could not be tested is not relied on."""
    if again or not _told:
        _told[:] = [_find(again)]
    return _told[0]


def _find(again: bool) -> SupervisorMode:
    if host_kind() is Kind.HARDWARE:
        return SupervisorMode(Supervisor.HARDWARE, "this CPU has VMX or SVM")
    key = _key()
    known = _read(key) if key and not again else None
    if known is not None:
        return _mode(*known)
    from corral.arch.x86_64 import native_probe

    try:
        finding = native_probe.run()
    except (HostError, OSError) as error:
        return SupervisorMode(Supervisor.INTERPRETED, f"native supervisor mode could not be tested: {error}")
    if finding.end:  # not kept: a guest that was too slow may be quicker when the host is less busy
        return SupervisorMode(Supervisor.INTERPRETED, finding.sentence)
    if key:
        _write(key, finding.check, finding.seen)
    return _mode(finding.check, finding.seen)


def _mode(check: int, seen: int) -> SupervisorMode:
    """By the check that the self-test ended with, and what it saw."""
    if check == lib.CORRAL_PROBE_PASSED:
        return SupervisorMode(Supervisor.NATIVE, "this KVM has native supervisor mode, and it passes its self-test")
    from corral.arch.x86_64 import native_probe

    return SupervisorMode(Supervisor.INTERPRETED, native_probe.Finding(check, seen).sentence)


def _key() -> str:
    """What a result holds for: this boot of the host, its KVM, its CPU, and this shim; "" where they cannot be told.

    A snapshot of a host keeps its boot ID and may go on on another CPU. A KVM module that is loaded anew gets another
    inode in sysfs, and makes another /dev/kvm.
    """
    registers = ffi.new("uint32_t[4]")
    lib.corral_host_cpuid(1, 0, registers)
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
            boot = file.read(64).decode("ascii").strip()
        device, shim = os.stat("/dev/kvm"), os.stat(SHIM)
        names = sorted(name for name in os.listdir(_MODULES) if "kvm" in name)
        modules = " ".join(f"{name} {os.stat(os.path.join(_MODULES, name)).st_ino}" for name in names)
    except (OSError, UnicodeDecodeError):
        return ""
    host = f"{boot} {os.uname().release} {registers[0]:x} {device.st_ino} {device.st_ctime_ns} {modules}"
    return f"{host} {shim.st_size} {shim.st_mtime_ns}"


def _path() -> str:
    return folder(f"supervisor-{os.geteuid()}")


def _read(key: str) -> tuple[int, int] | None:
    """What _write() wrote for this key, as the same user; else None."""
    try:
        file = os.open(_path(), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o022:
            return None
        content = os.read(file, 4096)
    except OSError:
        return None
    finally:
        os.close(file)
    try:
        check, seen = (int(word, 16) for word in content.rpartition(b"\n")[0].rpartition(b"\n")[2].split(b" "))
    except ValueError:
        return None
    is_result = 0 <= check <= lib.CORRAL_PROBE_OFF and seen >= 0 and content == _text(key, check, seen)
    return (check, seen) if is_result else None


def _write(key: str, check: int, seen: int) -> None:
    """Keeps a result; where that cannot be done, the next start tests again."""
    path = _path()
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:
        return
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(_text(key, check, seen))
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)


def _text(key: str, check: int, seen: int) -> bytes:
    return f"{key}\n{check:x} {seen:x}\n".encode()
