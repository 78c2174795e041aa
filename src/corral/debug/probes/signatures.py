"""How system calls are written: which arguments they have, and what those are.

A letter an argument: d a signed number, u an unsigned one, f a descriptor, a the descriptor of a folder, s a string, o
an octal number, x anything else. A call that is not here has all six, as hexadecimal numbers.
"""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_TABLE = """
read fxu|write fxu|open sxo|close f|stat sx|fstat fx|lstat sx|poll xud|lseek fdu|mmap xuxxfx|mprotect xux|munmap xu
brk x|rt_sigaction dxxu|rt_sigprocmask dxxu|rt_sigreturn |ioctl fxx|pread64 fxuu|pwrite64 fxuu|readv fxu|writev fxu
access so|pipe x|select dxxxx|sched_yield |mremap xuuxx|msync xux|mincore xux|madvise xud|dup f|dup2 ff|pause
nanosleep xx|alarm u|getpid |sendfile ffxu|socket ddd|connect fxu|accept fxx|sendto fxuxxu|recvfrom fxuxxx
sendmsg fxx|recvmsg fxx|shutdown fd|bind fxu|listen fd|getsockname fxx|socketpair dddx|setsockopt fddxu|clone xxxxx
fork |vfork |execve sxx|exit d|wait4 dxxx|kill dd|uname x|fcntl fdx|flock fd|fsync f|fdatasync f|truncate su
ftruncate fu|getdents fxu|getcwd xu|chdir s|fchdir f|rename ss|mkdir so|rmdir s|creat so|link ss|unlink s|symlink ss
readlink sxu|chmod so|fchmod fo|chown sdd|fchown fdd|umask o|gettimeofday xx|getrlimit dx|getrusage dx|sysinfo x
times x|ptrace dduu|getuid |getgid |setuid d|setgid d|geteuid |getegid |setpgid dd|getppid |getpgrp |setsid
sigaltstack xx|statfs sx|fstatfs fx|prctl dxxxx|arch_prctl xx|sync |mount sssxx|umount sx|umount2 sx|swapon sx
reboot xxdx
sethostname su|gettid |time x|futex xdudxu|sched_setaffinity dux|sched_getaffinity dux|getdents64 fxu
set_tid_address x|clock_gettime dx|clock_nanosleep dxxx|exit_group d|epoll_wait fxdd|epoll_ctl fdfx|tgkill ddd
openat asxo|mkdirat aso|newfstatat asxx|unlinkat asx|renameat asas|linkat asasx|symlinkat sas|readlinkat asxu
fchmodat aso|faccessat aso|faccessat2 asox|ppoll xuxxu|set_robust_list xu|utimensat asxx|accept4 fxxx|epoll_create1 x
dup3 ffx|pipe2 xx|inotify_init1 x|prlimit64 ddxx|renameat2 asasx|getrandom xux|memfd_create sx|execveat asxxx
statx asxxx|rseq xuxx|clone3 xu|close_range uux|openat2 asxu|finit_module fsx|init_module xus|delete_module sx
"""
SIGNATURES: dict[str, str] = {}
for _entry in _TABLE.replace("\n", "|").split("|"):
    _name, _, _letters = _entry.partition(" ")
    if _name:
        SIGNATURES[_name] = _letters
_AT_FDCWD = -100
_LAST_ERRNO = 4095  # of a result
NO_NUMBER = "restarted"  # ERESTARTSYS and its like, which no program sees
_RESTARTS = range(512, 517)
_ALL = "xxxxxx"


def strings_of(name: str) -> tuple[int, ...]:
    """Which arguments are strings."""
    return tuple(at for at, letter in enumerate(SIGNATURES.get(name, "")) if letter == "s")


def written(name: str, arguments: tuple[int, ...], strings: Mapping[int, str]) -> str:
    """`openat(AT_FDCWD, "/etc/passwd", 0x80000, 0)`."""
    letters = SIGNATURES.get(name, _ALL)
    parts = [_argument(letter, arguments[at], strings.get(at)) for at, letter in enumerate(letters)]
    return f"{name}({', '.join(parts)})"


def result_written(result: int | None) -> str:
    """`3`, `-1 ENOENT`, `?` of a call that does not return."""
    if result is None:
        return "?"
    if -result in _RESTARTS:
        return NO_NUMBER
    if -_LAST_ERRNO <= result < 0:
        return f"-1 {errno.errorcode.get(-result, str(-result))}"
    return str(result) if abs(result) < 1 << 32 else f"{result & (1 << 64) - 1:#x}"


def signed(value: int, bits: int = 64) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


def _argument(letter: str, value: int, text: str | None) -> str:
    if letter == "s" and text is not None:
        return '"' + text.encode("unicode_escape").decode().replace('"', '\\"') + '"'
    if letter == "a" and signed(value, 32) == _AT_FDCWD:
        return "AT_FDCWD"
    if letter in "fad":
        return str(signed(value, 32))
    if letter == "u":
        return str(value)
    if letter == "o":
        return f"{value & 0xFFFFFFFF:#o}" if value else "0"
    return f"{value:#x}" if value else "0"
