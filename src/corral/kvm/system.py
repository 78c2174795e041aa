"""/dev/kvm: what this host's KVM is, what it can do, and the virtual machines it makes."""

from __future__ import annotations

import errno
import os

from corral.errors import HostError
from corral.kvm.vcpu import CPUID_ENTRY
from corral.kvm.vm import Vm
from corral.native import Handle, check, ffi, ioctl, lib
from corral.startup.enums import Enum

API_VERSION = 12  # frozen since Linux 2.6.22 (api.rst, 4.1)
CPUID_ENTRIES = 256

_CURES = {
    "ENOENT": "is KVM loaded? modprobe kvm_amd or kvm_intel; in a virtual machine, enable nested virtualization",
    "EACCES": "add yourself to its group: sudo usermod -aG kvm $USER, then log in again",
    "EPERM": "the sandbox or container forbids it: pass the device through (--device /dev/kvm)",
    "EROFS": "the sandbox or container forbids it: pass the device through (--device /dev/kvm)",
    "EMFILE": "too few open files are allowed; see ulimit -n",
    "ENFILE": "the host has too many open files; see /proc/sys/fs/file-max",
    "ENODEV": "the kvm module found no CPU support: enable SVM or VT-x in the firmware",
    "ENXIO": "the device node is stale: modprobe kvm_amd or kvm_intel",
    "EBUSY": "another hypervisor holds the CPU's virtualization: stop it first",
}


class Kind(Enum):
    """How this KVM runs guests; docs/hosts.md tells what follows from it."""

    HARDWARE = "hardware"  # VMX or SVM: every mode runs natively
    PAGETABLE = "pagetable"  # neither: CPL 3 runs natively, the rest is interpreted by KVM


def host_kind() -> Kind:
    """The kind, from CPUID: VMX is leaf 1 ECX bit 5 (SDM 2A), SVM leaf 0x80000001 ECX bit 2 (APM 3)."""
    registers = ffi.new("uint32_t[4]")
    lib.corral_host_cpuid(1, 0, registers)
    vmx = registers[2] >> 5 & 1
    lib.corral_host_cpuid(0x80000001, 0, registers)
    svm = registers[2] >> 2 & 1
    return Kind.HARDWARE if vmx or svm else Kind.PAGETABLE


class System:
    """An open /dev/kvm. Raises HostError with the cure when it can't be opened or is not KVM API 12."""

    def __init__(self, path: str = "/dev/kvm") -> None:
        try:
            self.fd = Handle(os.open(path, os.O_RDWR | os.O_CLOEXEC), os.close)
        except OSError as error:
            cure = _CURES.get(errno.errorcode.get(error.errno or 0, ""), "corral doctor tells more")
            raise HostError(f"cannot open {path}: {error.strerror}; {cure}") from error
        try:
            version = ioctl(self.fd, "KVM_GET_API_VERSION", cure=f"{path} is not KVM")
            if version != API_VERSION:
                raise HostError(f"{path} speaks KVM API {version}, Corral needs {API_VERSION}")
        except BaseException:
            self.close()
            raise
        self.kind = host_kind()
        self._supported: list[tuple[int, int, int, int, int, int, int]] | None = None

    def close(self) -> None:
        self.fd.close()
        self._supported = None

    def __enter__(self) -> System:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def capability(self, name: str) -> int:
        """What KVM_CHECK_EXTENSION says of `KVM_CAP_<name>`: 0 is no, and the meaning of more is the capability's.

        Raises AttributeError for a name that csrc/decl/capabilities.h does not list.
        """
        return ioctl(self.fd, "KVM_CHECK_EXTENSION", getattr(lib, f"KVM_CAP_{name}"))

    def capabilities(self) -> dict[str, int]:
        """Every capability that Corral knows by name."""
        names = [name.removeprefix("KVM_CAP_") for name in dir(lib) if name.startswith("KVM_CAP_")]
        return {name: self.capability(name) for name in sorted(names)}

    def supported_cpuid(self) -> list[tuple[int, int, int, int, int, int, int]]:
        """KVM_GET_SUPPORTED_CPUID as (function, index, flags, eax, ebx, ecx, edx) (api.rst, 4.46). Asked once: it takes
        0.3 ms, for each leaf is an exit where this host is a guest itself."""
        if self._supported is not None:
            return self._supported
        cpuid = ffi.new("struct kvm_cpuid2 *", {"entries": CPUID_ENTRIES})
        cpuid.nent = CPUID_ENTRIES
        ioctl(self.fd, "KVM_GET_SUPPORTED_CPUID", cpuid)
        entries = ffi.buffer(cpuid.entries, cpuid.nent * CPUID_ENTRY.size)
        self._supported = list(CPUID_ENTRY.iter_unpack(entries))
        return self._supported

    def create_vm(self) -> Vm:
        """A new, empty virtual machine. Raises KvmError."""
        cure = "another hypervisor may hold the CPU's virtualization, or memory is short; see corral doctor"
        vcpu_mmap_size = ioctl(self.fd, "KVM_GET_VCPU_MMAP_SIZE")
        # KVM_CREATE_VM gives up with EINTR when a signal arrives while it works.
        while (fd := self.fd.call(lib.corral_ioctl, lib.KVM_CREATE_VM, ffi.NULL)) == -errno.EINTR:
            pass
        return Vm(check("KVM_CREATE_VM", fd, cure), vcpu_mmap_size)
