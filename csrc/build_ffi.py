"""Builds the C shim, `_corral_shim`: cffi in API mode over csrc/*/*.c and *.S and what their headers declare for Python
(declarations.py), for the limited API.

Beside it go programs of their own: the server of shared folders, `_corral_folder_server` (csrc/p9server), and what
waits in the clerk's place, `_corral_clerk` (csrc/clerk), and the switch of guests that share a network,
`_corral_switch` (csrc/switch).

As a hatchling build hook it puts all into the wheel. As a command it compiles into a folder, which is
how the sanitizer build is made:  python csrc/build_ffi.py --into DIR [--sanitize]
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

CSRC = Path(__file__).resolve().parent
sys.path.insert(0, str(CSRC.parent))  # for a build hook, which is loaded from its file
from csrc import declarations, jail_filters  # noqa: E402

FOLDERS = [CSRC / name for name in declarations.FOLDERS]
INCLUDES = [f"-I{folder}" for folder in FOLDERS]
MODULE = "_corral_shim"
FILE = f"{MODULE}.abi3.so"
SERVER_SOURCES = CSRC / "p9server"
PROGRAMS = {
    "_corral_folder_server": SERVER_SOURCES,
    "_corral_clerk": CSRC / "clerk",
    "_corral_switch": CSRC / "switch",
}

COMPLETION = {
    "bash": "share/bash-completion/completions/corral",
    "zsh": "share/zsh/site-functions/_corral",
    "fish": "share/fish/vendor_completions.d/corral.fish",
}  # where shells look

WARNINGS = ["-Wall", "-Wextra", "-Werror"]
# cffi's own code is not ours to polish, but a declaration of another type than the header's shows there. From gcc 14 on
# that is an error by itself; here it is one with every compiler.
GENERATED_WARNINGS = ["-Werror=incompatible-pointer-types"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g"]
# It reads what a guest sends.
HARDENED = ["-fPIE", "-pie", "-fstack-protector-strong", "-Wl,-z,relro,-z,now", "-Wl,-z,noexecstack"]
# The dynamic linker takes a third of the time in which the clerk starts. Without a libc.a it is linked as usual.
STATIC = {"_corral_clerk": ["-static-pie"]}
HEADERS = ["<linux/kvm.h>"]
# What the io_uring engine needs of liburing. It is built in where this compiles and links; Corral has another engine.
URING_PROBE = """
#include <liburing.h>
int corral_probe(struct io_uring *ring);
int corral_probe(struct io_uring *ring)
{
    struct io_uring_params p = {.flags = IORING_SETUP_CQSIZE, .features = IORING_FEAT_RSRC_TAGS};
    io_uring_prep_poll_multishot(io_uring_get_sqe(ring), 0, 0);
    io_uring_prep_cancel(io_uring_get_sqe(ring), 0, IORING_ASYNC_CANCEL_ANY);
    io_uring_submit_and_wait_timeout(ring, 0, 1, 0, 0);
    io_uring_register_restrictions(ring, 0, 0);
    io_uring_enable_rings(ring);
    return io_uring_queue_init_params(8, ring, &p);
}
"""


def generated_source() -> str:
    """C source of the Python module: every declaration checked by the compiler against the header it is of."""
    from cffi import FFI

    ffi, own = FFI(), declarations.headers()
    for text in (*declarations.of_linux().values(), *own.values()):
        ffi.cdef(text)
    ffi.set_source(MODULE, "\n".join(f"#include {header}" for header in (*HEADERS, *(f'"{name}"' for name in own))))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / f"{MODULE}.c"
        ffi.emit_c_code(str(source))
        return source.read_text()


def find_uring(compiler: list[str]) -> list[str] | None:
    """What to link for liburing, the static one if it can be part of a shared object; None where there is none."""
    printed = subprocess.run([*compiler, "-print-file-name=liburing.a"], capture_output=True, text=True)
    static = printed.stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.c"
        source.write_text(URING_PROBE)
        for library in ([static, "-Wl,--exclude-libs,ALL"], ["-luring"]):
            command = [*compiler, "-w", "-fPIC", "-shared", "-Wl,-z,defs", str(source), *library, "-o"]
            command.append(str(source.with_suffix(".so")))
            if subprocess.run(command, capture_output=True).returncode == 0:
                return library
    return None


def require_tools(compiler: list[str]) -> str:
    """The folder of Python.h. Exits where that or the compiler is missing, naming its package."""
    if shutil.which(compiler[0]) is None:
        raise SystemExit(f"csrc: no {compiler[0]}; install a C compiler: apt-get install gcc")
    include = sysconfig.get_path("include")
    if not os.path.exists(os.path.join(include, "Python.h")):
        raise SystemExit(f"csrc: {sys.executable} has no Python.h; install it: apt-get install python3-dev")
    return include


def compile_shim(into: Path, sanitize: bool = False, uring: bool = True) -> Path:
    """Compiles csrc/*/*.[cS] (all warnings are errors) and the generated module into `into`; returns the module."""
    compiler = shlex.split(os.environ.get("CC", "gcc"))
    include = require_tools(compiler)
    into.mkdir(parents=True, exist_ok=True)
    flags = ["-O2", "-std=gnu11", "-fPIC", "-pthread", "-fvisibility=hidden", *INCLUDES]
    if sanitize:
        flags += SANITIZE
    libraries = find_uring(compiler) if uring else None
    if libraries is not None:
        flags.append("-DCORRAL_HAVE_URING")
    with tempfile.TemporaryDirectory() as folder:
        # The same bytes wherever it is built.
        flags += [f"-ffile-prefix-map={where}=csrc" for where in (CSRC, folder)]
        generated = Path(folder) / f"{MODULE}.c"
        generated.write_text(generated_source())
        (Path(folder) / "jail_filters.inc").write_text(jail_filters.source(compiler))
        jobs = [(generated, [*GENERATED_WARNINGS, f"-I{include}"])] + [
            (path, [*WARNINGS, f"-I{folder}"]) for source in FOLDERS for path in sorted(source.glob("*.[cS]"))
        ]
        objects = [str(Path(folder) / f"{source.stem}.o") for source, _ in jobs]
        running = [
            subprocess.Popen([*compiler, *flags, *extra, "-c", str(source), "-o", output])
            for (source, extra), output in zip(jobs, objects, strict=True)
        ]
        statuses = [process.wait() for process in running]  # of all: none is left behind
        if any(statuses):
            raise SystemExit("csrc: the shim does not compile; the compiler has said why")
        target = into / FILE
        # Linked beside its place and moved: a running Corral keeps the file that it has mapped.
        linked = Path(folder) / FILE
        link = [*compiler, "-shared", "-pthread", *(SANITIZE if sanitize else []), *objects]
        link += [*(libraries or []), "-o", str(linked)]
        subprocess.run(link, check=True)
        put(linked, target)
    return target


def put(file: Path, target: Path) -> None:
    """In one step, whatever file system it comes from."""
    temporary = target.parent / f".{target.name}.{os.getpid()}"
    temporary.write_bytes(file.read_bytes())
    temporary.chmod(0o755)
    temporary.replace(target)


def compile_program(name: str, into: Path, sanitize: bool = False) -> Path:
    """Compiles one of PROGRAMS into `into`; returns its file."""
    compiler = shlex.split(os.environ.get("CC", "gcc"))
    if shutil.which(compiler[0]) is None:
        raise SystemExit(f"csrc: no {compiler[0]}; install a C compiler: apt-get install gcc")
    into.mkdir(parents=True, exist_ok=True)
    flags = ["-O2", "-std=gnu11", "-pthread", "-fvisibility=hidden", *WARNINGS, *HARDENED]
    flags += [*SANITIZE, "-DP9_SANITIZED", "-DSWITCH_SANITIZED"] if sanitize else ["-D_FORTIFY_SOURCE=2"]
    with tempfile.TemporaryDirectory() as folder:
        linked = Path(folder) / name
        command = [*compiler, *flags, *map(str, sorted(PROGRAMS[name].glob("*.c"))), "-o", str(linked)]
        static = [] if sanitize else STATIC.get(name, [])
        done = bool(static) and subprocess.run([*command, *static], capture_output=True).returncode == 0
        if not done and subprocess.run(command).returncode:
            raise SystemExit(f"csrc: {name} does not compile; the compiler has said why")
        put(linked, into / name)
    return into / name


def compile_guest_programs(into: Path, shim: Path) -> dict[str, str]:
    """Compiles what a guest runs of Corral's own, so that a wheel wants no compiler; gives each file its place there.

    Only for a wheel: a checkout compiles what it has at the moment.
    """
    sys.path[:0] = [str(CSRC.parent / "src"), str(shim.parent)]
    from corral.guests import bios, programs

    into.mkdir()
    for source in programs.names():
        programs.compile_program(source, str(into / programs.program(source)))
    bios.assemble(str(into / bios.ROM))
    return {str(file): f"corral/guests/data/{programs.CARRIED}/{file.name}" for file in sorted(into.iterdir())}


def write_shell_files(into: Path, shim: Path) -> dict[str, str]:
    """Writes manual pages and the completion of shells, from the tables of the commands; gives each file its place
    below the folder that it is installed into."""
    sys.path[:0] = [str(CSRC.parent / "src"), str(shim.parent)]
    from corral.cli import completion, completion_scripts, manual

    into.mkdir()
    places = {name: f"share/man/man{manual.SECTION}/{name}" for name in manual.pages()}
    texts = manual.pages()
    for shell, script in completion_scripts.SCRIPTS.items():
        texts[shell], places[shell] = script(completion.commands()), COMPLETION[shell]
    for name, text in texts.items():
        (into / name).write_text(text)
    return {str(into / name): place for name, place in places.items()}


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # not a wheel build
    pass
else:

    class ShimBuildHook(BuildHookInterface):  # type: ignore[type-arg]
        """Puts the shim at the top of site-packages, in wheels and in editable installs alike."""

        PLUGIN_NAME = "custom"

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            if self.target_name != "wheel":
                return
            self.folder = tempfile.TemporaryDirectory()
            shim = compile_shim(Path(self.folder.name))
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["pure_python"] = False
            build_data["tag"] = f"cp311-abi3-{platform}"
            programs = [compile_program(name, Path(self.folder.name)) for name in PROGRAMS]
            for file in (shim, *programs):
                build_data["force_include"][str(file)] = file.name
                build_data["force_include_editable"][str(file)] = file.name
            if version != "editable":
                build_data["force_include"] |= compile_guest_programs(Path(self.folder.name) / "guests", shim)
                build_data["shared_data"] |= write_shell_files(Path(self.folder.name) / "shells", shim)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compile the C shim of Corral into a folder.")
    parser.add_argument("--into", type=Path, required=True, help="folder that gets " + FILE)
    parser.add_argument("--sanitize", action="store_true", help="with AddressSanitizer and UBSan")
    parser.add_argument("--without-uring", action="store_true", help="as where liburing is missing")
    options = parser.parse_args()
    print(compile_shim(options.into, options.sanitize, uring=not options.without_uring))
    for name in PROGRAMS:
        print(compile_program(name, options.into, options.sanitize))


if __name__ == "__main__":
    sys.exit(main())
