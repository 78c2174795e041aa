"""The system calls that each kind of thread may make once its guest runs, and with which arguments.

csrc/jail_filters.py makes seccomp filters of it when the shim is built; docs/security.md shows it. It is plain data and
imports nothing of Corral. Names are those of Linux's headers, which the C compiler knows.

A thread of a guest inherits the main thread's filter and adds its own, so what a kind may do, MAIN may too.
"""

from __future__ import annotations

from typing import NamedTuple

SELF = "CORRAL_JAIL_SELF"  # as a value: the number of the process itself


class Argument(NamedTuple):
    """An argument whose low 32 bits, masked, are one of `values`."""

    argument: int
    values: tuple[str, ...]
    mask: str = ""  # "": all 32


class Call(NamedTuple):
    """A system call that a kind of thread may make."""

    call: str
    why: str
    check: Argument | None = None


def _ioctl(*requests: str) -> Argument:
    return Argument(1, requests)


_NOT_EXECUTABLE = Argument(2, ("0",), "PROT_EXEC")

# Reading and changing what a vCPU is, from its own thread or while it is stopped.
_REGISTERS = (
    "KVM_GET_REGS",
    "KVM_SET_REGS",
    "KVM_GET_SREGS",
    "KVM_SET_SREGS",
    "KVM_GET_MSRS",
    "KVM_SET_MSRS",
    "KVM_GET_VCPU_EVENTS",
    "KVM_SET_VCPU_EVENTS",
    "KVM_GET_XSAVE",
    "KVM_SET_XSAVE",
    "KVM_GET_XCRS",
    "KVM_GET_DEBUGREGS",
    "KVM_GET_MP_STATE",
    "KVM_SET_GUEST_DEBUG",
)
_STATE = (
    "KVM_GET_LAPIC",
    "KVM_GET_IRQCHIP",
    "KVM_GET_CLOCK",
    "KVM_GET_MSR_INDEX_LIST",
    "KVM_GET_STATS_FD",
    "KVM_SIGNAL_MSI",
)
_WATCHED = ("KVM_CHECK_EXTENSION", "KVM_SET_USER_MEMORY_REGION")  # watchpoints on a KVM without debug registers
_DEVICES = (
    "KVM_IRQ_LINE",
    "KVM_SET_GSI_ROUTING",
    "KVM_IOEVENTFD",
    "KVM_CREATE_PIT2",
    "KVM_GET_PIT2",
    "KVM_SET_PIT2",
)  # a PIT is made at its first touch

_MEMORY = (
    Call("mmap", "memory of Python and of the C library, never executable", _NOT_EXECUTABLE),
    Call("munmap", "gives memory back"),
    Call("mprotect", "memory that was kept in reserve, never executable", _NOT_EXECUTABLE),
    Call("futex", "locks, Python's own among them"),
)
_ENDS = (
    Call("restart_syscall", "the kernel goes on with a wait that it interrupted: SIGCONT, another thread's signal"),
    Call("exit", "a thread ends"),
    Call("rt_sigreturn", "a signal handler ends"),
    Call("exit_group", "the refused call's line was written, and the process ends"),
)

VCPU = (
    Call("ioctl", "runs the vCPU; its registers; interrupts", _ioctl("KVM_RUN", *_DEVICES, *_REGISTERS, "TCSETS2")),
    Call("gettid", "who runs the vCPU, for those that kick it"),
    *_MEMORY,
    Call("write", "wakes another thread; what the guest says on its console"),
    Call("read", "empties an event"),
    Call("tgkill", "kicks another vCPU's thread of this process", Argument(0, (SELF,))),
    Call("preadv2", "puts a program into memory that a BIOS hands over to"),
    *_ENDS,
)

_WORKER = (
    Call("ppoll", "waits for the guest and for the host"),
    Call("read", "empties an event"),
    Call("write", "raises an interrupt; wakes another thread"),
    Call("mmap", "memory of the C library, never executable", _NOT_EXECUTABLE),
    Call("mprotect", "the same", _NOT_EXECUTABLE),
    Call("munmap", "gives it back"),
    Call("futex", "locks"),
    Call("ioctl", "the terminal is put right before a refused call ends the process", _ioctl("TCSETS2")),
    Call("exit", "the thread ends"),
    Call("exit_group", "the refused call's line was written, and the process ends"),
)
DISK = (
    Call("io_uring_enter", "the ring, which takes the operations below and no others"),
    Call("preadv2", "the image"),
    Call("pwritev2", "the image"),
    Call("fdatasync", "a flush"),
    Call("fallocate", "a discard"),
    Call("lseek", "where the image ends"),
    *_WORKER,
)
STREAM = (
    Call("preadv2", "into the guest's memory, from a pipe"),
    Call("pwritev2", "from the guest's memory, to a pipe"),
    Call("recvmsg", "into the guest's memory, from a socket"),
    Call("sendmsg", "from the guest's memory, to a socket"),
    Call("getrandom", "the guest's random bytes"),
    Call("madvise", "memory that the guest has freed", Argument(2, ("MADV_DONTNEED",))),
    Call("ioctl", "a tap is told what its guest knows; the terminal", _ioctl("TUNSETOFFLOAD", "TCSETS2")),
    *(rule for rule in _WORKER if rule.call != "ioctl"),
)
SOCKET = (
    Call("recvmsg", "into the guest's memory, from a socket; a socket, from the connector"),
    Call("sendmsg", "from the guest's memory, to a socket"),
    Call("recvfrom", "which port of the guest a program of the host wants"),
    Call("sendto", "the answer to that; a question to the connector"),
    Call("accept4", "a program of the host that connects to the guest"),
    Call("shutdown", "the guest sends a program of the host no more"),
    Call("close", "a connection ends"),
    Call("epoll_ctl", "a connection is watched"),
    Call("epoll_wait", "what has come from which"),
    *_WORKER,
)

# What a new thread asks first. clone3 hides its flags in memory, where no filter looks, so it is absent (ENOSYS), and
# the C library falls back to clone.
_THREAD = "CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD|CLONE_SYSVSEM|CLONE_SETTLS|CLONE_PARENT_SETTID"
_STARTS = (
    Call(
        "clone",
        "starts the vCPUs' threads: a thread, never a process",
        Argument(0, (f"{_THREAD}|CLONE_CHILD_CLEARTID",)),
    ),
    Call("rseq", "the C library does, as a thread begins"),
    Call("prctl", "its name", Argument(0, ("PR_SET_NAME",))),
    Call("seccomp", "a thread adds its own filter, which takes away more", Argument(1, ("0",))),
    Call("sched_setaffinity", "a thread's CPUs"),
)
_MAIN_ONLY = (
    Call("poll", "waits for the guest, the terminal and the end"),
    Call("brk", "memory of the C library"),
    Call("rt_sigprocmask", "the C library does, as a thread begins"),
    Call("close", "descriptors of what ends"),
    Call("wait4", "the server of a shared folder, or what started passt, has ended"),
    Call("flock", "an image is given free", Argument(1, ("LOCK_UN",))),
    Call("fstat", "what a descriptor is"),
    Call("newfstatat", "the same, of an older C library", Argument(3, ("AT_EMPTY_PATH",), "AT_EMPTY_PATH")),
    Call(
        "fcntl",
        "looks at a descriptor, and makes it wait or not",
        Argument(1, ("F_GETFL", "F_SETFL", "F_DUPFD_CLOEXEC")),
    ),
    Call("rt_sigaction", "signal handlers are put back"),
    Call("setitimer", "the end of the time that a guest has to shut down"),
)
_TERMINAL = ("TCGETS", "TCSETS", "TCSETSW", "TCSETSF", "TIOCGWINSZ", "FIONREAD")


def _joined(*kinds: tuple[Call, ...]) -> tuple[Call, ...]:
    """Each call once; requests of all."""
    rules: dict[str, Call] = {}
    for rule in (rule for kind in kinds for rule in kind):
        known = rules.get(rule.call)
        if known is None:
            rules[rule.call] = rule
        elif known.check and rule.check and known.check != rule.check:
            values = (*known.check.values, *(value for value in rule.check.values if value not in known.check.values))
            rules[rule.call] = known._replace(check=known.check._replace(values=values))
    return tuple(rules.values())


MAIN = _joined(VCPU, DISK, STREAM, (Call("ioctl", "the terminal", _ioctl(*_TERMINAL)),), _STARTS, _MAIN_ONLY)

# The thread that serves gdb: it drives the vCPUs while they are stopped, and talks to the gdb that it has accepted. All
# threads have this where there is gdb or a vsock, which needs some of the same; the main thread has its own besides.
DEBUGGER = _joined(
    MAIN,
    SOCKET,
    (
        Call("getsockname", "what kind of connection it is"),
        Call("getsockopt", "whose gdb it is"),
        Call("setsockopt", "without delay", Argument(1, ("IPPROTO_TCP",))),
        Call("ioctl", "no waiting for gdb; pages that it watches", _ioctl("FIONBIO", *_WATCHED)),
    ),
)

# All threads of a guest with a name have this, each its own besides; its main thread answers the commands that ask by
# its name, and saves it into a file that one of them hands over.
NAMED = _joined(
    DEBUGGER,
    (
        Call("pread64", "which pages of the guest's memory were ever touched"),
        Call("pwrite64", "a snapshot, into a file that was handed over"),
        Call("ftruncate", "how long that is"),
        Call("ioctl", "what a snapshot has", _ioctl(*_STATE)),
    ),
)

# A program in Python that has a jailed guest (corral.Machine): it may wait, and look at its own process.
SCRIPT = _joined(
    DEBUGGER,
    (
        Call("sched_getaffinity", "a thread's CPUs, to put them back"),
        Call("clock_nanosleep", "time.sleep()"),
        Call("select", "the same, and waiting for descriptors"),
        Call("pselect6", "the same"),
        Call("pipe2", "words between threads"),
        Call("eventfd2", "the same"),
        Call("dup", "descriptors of its own"),
        Call("pread64", "files that are open"),
        Call("pwrite64", "the same"),
        Call("ftruncate", "the same"),
        Call("fsync", "the same"),
        Call("getpid", "who it is"),
        Call("getppid", "the same"),
        Call("getuid", "the same"),
        Call("geteuid", "the same"),
        Call("getgid", "the same"),
        Call("getegid", "the same"),
        Call("uname", "where it is"),
        Call("sysinfo", "the same"),
        Call("getrusage", "what it has used"),
        Call("ioctl", "what Python asks of a file that it has opened; what a snapshot has", _ioctl("FIOCLEX", *_STATE)),
    ),
)
# The same where it named files that it will open: Landlock says which.
_OPENS = ("openat", "stat", "newfstatat", "statx", "lstat", "access", "readlink", "getdents64", "getcwd")
FILES = (
    *(rule for rule in SCRIPT if rule.call not in _OPENS),
    *(Call(call, "finds and opens the files that were named") for call in _OPENS),
    *(Call(call, "makes and removes them") for call in ("mkdir", "unlink", "rmdir", "rename")),
    Call("mremap", "modules that it loads"),
)

# The process that makes reports: it loads Python's modules and capstone when it is asked, so code may be mapped.
CLERK = (
    *(
        Call(call, "finds and reads modules, kernels and symbols; writes a report")
        for call in ("openat", "stat", "newfstatat", "fstat", "statx", "lstat", "access", "readlink", "getdents64")
    ),
    *(
        Call(call, "reads and writes what is open")
        for call in ("read", "pread64", "preadv2", "write", "lseek", "close", "fcntl")
    ),
    *(Call(call, "memory and modules") for call in ("mmap", "munmap", "mprotect", "mremap", "madvise", "brk", "futex")),
    Call("ioctl", "what Python asks of a file; the terminal is put right", _ioctl("TCGETS", "TCSETS2", "FIOCLEX")),
    *(
        Call(call, "modules ask as they are loaded")
        for call in ("getcwd", "getpid", "gettid", "getrandom", "uname", "epoll_create1")
    ),
    *(Call(call, "signals") for call in ("rt_sigaction", "rt_sigprocmask", "rt_sigreturn")),
    Call("exit_group", "it ends"),
)

# The process that connects a guest's programs to Unix sockets (vsock_connector.c). No filter sees a path: that it
# goes to no others is its code's doing, which a guest can only tell a number.
CONNECTOR = (
    Call("recvfrom", "a port, from the VMM"),
    Call("socket", "one of this host alone", Argument(0, ("AF_UNIX",))),
    Call("connect", "to the port's socket"),
    Call("sendmsg", "the connected socket, to the VMM"),
    Call("close", "its own copy"),
    Call("unlink", "the socket by which programs reached the guest, at the end"),
    Call("write", "the refused call's line"),
    Call("ioctl", "the terminal is put right before that", _ioctl("TCSETS2")),
    Call("rt_sigreturn", "a signal handler ends"),
    Call("exit_group", "it ends"),
)

KINDS = {
    "main": MAIN,
    "vcpu": VCPU,
    "disk": DISK,
    "stream": STREAM,
    "clerk": CLERK,
    "socket": SOCKET,
    "connector": CONNECTOR,
    "debugger": DEBUGGER,
    "named": NAMED,
    "script": SCRIPT,
    "files": FILES,
}

# These fail with EACCES and the process goes on: Python asks for files where it can do without, as to show a source
# line, and the C library copies what it cannot mremap. The next fail with ENOSYS: clone3, and what the C library does
# without as a thread begins and ends, or to count CPUs. A call that is in no list ends the process with one line.
FAIL = (
    "open",
    "openat",
    "openat2",
    "stat",
    "lstat",
    "newfstatat",
    "statx",
    "access",
    "faccessat",
    "faccessat2",
    "readlink",
    "readlinkat",
    "getdents64",
    "getcwd",
    "mremap",
)
ABSENT = ("clone3", "set_robust_list", "rt_sigprocmask", "madvise", "sched_getaffinity")
