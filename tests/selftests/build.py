"""Linux's selftests, compiled from the source of the small kernel: those for x86 with 64 bits, and those of memory that
need the C library alone, no large pages from a pool, and leave the system as it is."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from corral.guests import cache, debian, sources, step

X86 = (
    *("sysret_rip", "sysret_ss_attrs", "syscall_nt", "sigreturn", "sigaltstack", "sigtrap_loop"),
    *("single_step_syscall", "syscall_numbering", "syscall_arg_fault", "ptrace_syscall", "ldt_gdt"),
    *("fsgsbase", "fsgsbase_restore", "iopl", "ioperm", "mov_ss_trap", "test_mremap_vdso", "test_vsyscall"),
    *("test_syscall_vdso", "corrupt_xstate_header", "check_initial_reg_state", "amx"),
)
MM = (
    *("madv_populate", "map_fixed_noreplace", "map_populate", "mlock2-tests", "mrelease_test", "mremap_dontunmap"),
    *("mremap_test", "on-fault-limit", "soft-dirty", "userfaultfd", "va_128TBswitch", "virtual_address_range"),
)
OURS = Path(__file__).parents[1] / "support" / "forbidden.c"
ARGUMENTS = {"userfaultfd": ("anon", "20", "2")}
PACKAGES = ["gcc", "libc6-dev", "xz-utils"]
TREE = "tools/testing/selftests"
FLAGS = ["-O2", "-std=gnu99", "-pthread", "-no-pie"]


def programs() -> dict[str, Path]:
    """The path of each that compiles, by its name. Raises HostError."""
    package = debian.dependency("linux-source", "linux-source-")
    key = sources.digest(Path(__file__).read_bytes(), OURS.read_bytes())
    target = Path(cache.folder("selftests", f"{debian.candidate(package)}_{key}"))
    with cache.making(str(target)) as unfinished:
        if unfinished:
            debian.require_installed(PACKAGES, "Linux's selftests")
            archive = debian.file(package, f"{package}.tar.*")
            with tempfile.TemporaryDirectory() as tree:
                parts = [f"{package}/{part}" for part in (TREE, "tools/include", "arch/x86/include/asm")]
                step.run(["tar", "-x", "-f", archive, "-C", tree, "--strip-components=1", *parts], "tar")
                _compile(Path(tree), Path(unfinished))
            ours = ["gcc", "-O1", "-static", "-o", f"{unfinished}/{OURS.stem}", str(OURS)]
            subprocess.run(ours, check=True)
    return {name: target / name for name in (OURS.stem, *X86, *MM) if (target / name).exists()}


def _compile(tree: Path, into: Path) -> None:
    memory = next(tree / TREE / name for name in ("mm", "vm") if (tree / TREE / name).is_dir())  # mm from 6.3 on
    for folder, names in (tree / TREE / "x86", X86), (memory, MM):
        for name in names:
            others = {"sysret_ss_attrs": ["thunks.S"]}.get(name, [])
            include = [f"-I{tree / part}" for part in ("", "tools/include", TREE)]
            # Some have a function of vm_util.c's name of their own.
            for helpers in [[], ["vm_util.c"]] if folder is memory else [[]]:
                command = ["gcc", *FLAGS, *include, "-o", str(into / name), f"{name}.c", *others, *helpers, "-lrt"]
                if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0:
                    break
