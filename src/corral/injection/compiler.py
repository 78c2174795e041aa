"""Compiles and links what is injected for one kernel: guests/linux/native and guests/linux/injected."""

from __future__ import annotations

import os

from corral.errors import HostError
from corral.guests import sources
from corral.injection.places import LARGEST_CODE
from corral.injection.unfit import Check, UnfitError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.injection.headers import Headers
    from corral.injection.linked import LinkedKernel
    from corral.injection.places import Places

# As the kernel is compiled, where that matters: no SSE, no red zone, addresses in the upper 2 GiB.
_FLAGS = (
    *("-m64", "-mno-sse", "-mno-mmx", "-mno-sse2", "-mno-3dnow", "-mno-avx", "-mno-80387", "-mno-red-zone"),
    *("-mcmodel=kernel", "-mskip-rax-setup", "-fno-pie", "-fno-stack-protector", "-fcf-protection=none"),
    *("-fno-asynchronous-unwind-tables", "-fno-jump-tables", "-fno-strict-aliasing", "-fno-strict-overflow"),
    *("-fno-delete-null-pointer-checks", "-fno-common", "-fshort-wchar", "-std=gnu11", "-O2", "-w"),
    *("-D__KERNEL__", '-DKBUILD_MODNAME="corral"', '-DKBUILD_BASENAME="corral"', "-D__KBUILD_MODNAME=corral"),
)
_PARTS = (
    ("native", "corral_native.c"),
    ("native", "corral_port_io.c"),
    ("native", "corral_native_64.S"),
    ("injected", "hooks.c"),
    ("injected", "cpuid.c"),
    ("injected", "hooks_64.S"),
)
_OTHERS = (
    ("native", "corral_native.h"),
    ("injected", "options.h"),
    ("injected", "entry/calling.h"),
    ("injected", "link.ld"),
)
_TOOLS = ("gcc", "ld", "nm", "objcopy")


@record(frozen=True)
class Code:
    """For the hole at Places.hole; `exceptions` lie at that symbol's address."""

    content: bytes
    symbols: dict[str, int]

    @property
    def exceptions(self) -> bytes:
        start, end = (self.symbols[name] - self.symbols["corral_hole"] for name in _EXCEPTIONS)
        return self.content[start:end]


_EXCEPTIONS = ("corral_exceptions", "corral_exceptions_end")


def contents() -> list[bytes]:
    """All that the code is made from, for a key."""
    files = []
    for folder, name in (*_PARTS, *_OTHERS):
        with open(_path(folder, name), "rb") as file:
            files.append(file.read())
    return [*files, " ".join(_FLAGS).encode()]


def require() -> None:
    """Raises HostError where there is nothing to build with."""
    import shutil

    for tool in _TOOLS:
        if shutil.which(tool) is None:
            raise HostError(_missing(tool))


def build(kernel: LinkedKernel, places: Places, headers: Headers, folder: str) -> Code:
    """In `folder`, where much is left. Raises UnfitError for a kernel without a symbol that it needs, HostError where
    there is no compiler."""
    os.makedirs(os.path.join(folder, "include", "asm"))
    # The kernel's own build would have copied it there.
    os.symlink(_path("native", "corral_native.h"), os.path.join(folder, "include", "asm", "corral_native.h"))
    os.symlink(_path("injected", "entry"), os.path.join(folder, "include", "entry"))
    os.mkdir(os.path.join(folder, "include", "kernel"))
    objects = [_compile(_path(*part), headers, folder) for part in _PARTS]

    undefined = set(_run(["nm", "--undefined-only", "--format=just-symbols", *objects]).split())
    defined = set(_run(["nm", "--defined-only", "--format=just-symbols", *objects]).split())
    wanted = sorted(name for name in undefined - defined if not name.endswith(":"))
    values = {name: kernel.address(name) for name in wanted}
    values |= {"corral_hole": places.hole, "corral_percpu": places.percpu}
    with open(os.path.join(folder, "corral_kernel.ld"), "w", encoding="ascii") as file:
        file.writelines(f"{name} = {value:#x};\n" for name, value in values.items())
    linked, content = os.path.join(folder, "linked"), os.path.join(folder, "content")
    script = ["-L", folder, "-T", _path("injected", "link.ld"), "--no-check-sections", "--build-id=none"]
    _run(["ld", *script, "-o", linked, *objects])
    _run(["objcopy", "--only-section=.text", "--output-target=binary", linked, content])
    rows = [line.split() for line in _run(["nm", linked]).splitlines()]
    with open(content, "rb") as file:
        code = file.read()
    if len(code) > LARGEST_CODE:
        raise UnfitError(Check.BUILD, f"what is injected takes {len(code)} bytes, and its hole is of {LARGEST_CODE}")
    return Code(code, {name: int(value, 16) for value, _, name in rows})


def _compile(source: str, headers: Headers, folder: str) -> str:
    output = os.path.join(folder, os.path.basename(source) + ".o")
    kconfig = os.path.join(headers.common, "include", "linux", "kconfig.h")
    types = os.path.join(headers.common, "include", "linux", "compiler_types.h")
    before = [kconfig, _path("injected", "options.h")] + [types] * source.endswith(".c")
    # guests/linux/native asks for "../entry/calling.h": seen from the last of these folders, that is ours.
    ours = [os.path.join(folder, "include"), os.path.join(folder, "include", "kernel")]
    words = ["-nostdinc", *(f"-I{path}" for path in (*ours, *headers.includes))]
    words += [word for path in before for word in ("-include", path)]
    language = ["-D__ASSEMBLY__"] * source.endswith(".S")
    _run(["gcc", *_FLAGS, *language, *words, "-c", source, "-o", output])
    return output


def _path(folder: str, name: str) -> str:
    return os.path.join(sources.folder("linux"), folder, name)


def _missing(tool: str) -> str:
    return f"no {tool} to build what is injected; install it: apt-get install gcc"


def _run(command: list[str]) -> str:
    import subprocess

    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise HostError(_missing(command[0])) from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it does not say why"]
        first = next((line for line in lines if "error" in line), lines[-1])
        raise UnfitError(Check.BUILD, f"what is injected does not build for it: {first}")
    return done.stdout
