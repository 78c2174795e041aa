"""Builds the C shim, `_corral_shim`: cffi in API mode over csrc/decl/*.h and csrc/*.c, for the limited API.

As a hatchling build hook it puts the module into the wheel. As a command it compiles into a folder, which is
how the sanitizer build is made:  python csrc/build_ffi.py --into DIR [--sanitize]
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

CSRC = Path(__file__).resolve().parent
MODULE = "_corral_shim"
FILE = f"{MODULE}.abi3.so"

WARNINGS = ["-Wall", "-Wextra", "-Werror"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g"]
HEADERS = ["<linux/kvm.h>"]
# What the io_uring engine needs of liburing. It is built in where this compiles and links; Corral has another engine.
URING_PROBE = """
#include <liburing.h>
int corral_probe(struct io_uring *ring);
int corral_probe(struct io_uring *ring)
{
    struct io_uring_params p = {.flags = IORING_SETUP_CQSIZE, .features = IORING_FEAT_RSRC_TAGS};
    io_uring_prep_poll_multishot(io_uring_get_sqe(ring), 0, 0);
    io_uring_submit_and_wait_timeout(ring, 0, 1, 0, 0);
    return io_uring_queue_init_params(8, ring, &p);
}
"""


def generated_source() -> str:
    """C source of the Python module: every declaration of decl/ checked by the compiler against the headers."""
    from cffi import FFI

    ffi = FFI()
    names = sorted(path.name for path in (CSRC / "decl").glob("*.h"))
    for name in names:
        ffi.cdef((CSRC / "decl" / name).read_text())
    own = [f'"{name}"' for name in names if (CSRC / name).exists()]
    ffi.set_source(MODULE, "\n".join(f"#include {header}" for header in HEADERS + own))
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
            command = [*compiler, "-w", "-fPIC", "-shared", str(source), *library, "-o", str(source.with_suffix(".so"))]
            if subprocess.run(command, capture_output=True).returncode == 0:
                return library
    return None


def compile_shim(into: Path, sanitize: bool = False, uring: bool = True) -> Path:
    """Compiles csrc/*.c (all warnings are errors) and the generated module into `into`; returns the module."""
    into.mkdir(parents=True, exist_ok=True)
    compiler = shlex.split(os.environ.get("CC", "gcc"))
    flags = ["-O2", "-std=gnu11", "-fPIC", "-pthread", "-fvisibility=hidden", f"-I{CSRC}"]
    if sanitize:
        flags += SANITIZE
    libraries = find_uring(compiler) if uring else None
    if libraries is not None:
        flags.append("-DCORRAL_HAVE_URING")
    with tempfile.TemporaryDirectory() as folder:
        generated = Path(folder) / f"{MODULE}.c"
        generated.write_text(generated_source())
        includes = [f"-I{sysconfig.get_path('include')}"]
        jobs = [(generated, ["-w", *includes])] + [(path, WARNINGS) for path in sorted(CSRC.glob("*.c"))]
        objects = [str(Path(folder) / f"{source.stem}.o") for source, _ in jobs]
        running = [
            subprocess.Popen([*compiler, *flags, *extra, "-c", str(source), "-o", output])
            for (source, extra), output in zip(jobs, objects, strict=True)
        ]
        statuses = [process.wait() for process in running]  # of all: none is left behind
        if any(statuses):
            raise SystemExit("csrc: the shim does not compile (gcc and the Python headers are needed)")
        target = into / FILE
        # Linked beside its place and moved: a running Corral keeps the file that it has mapped.
        linked = Path(folder) / FILE
        link = [*compiler, "-shared", "-pthread", *(SANITIZE if sanitize else []), *objects]
        link += [*(libraries or []), "-o", str(linked)]
        subprocess.run(link, check=True)
        temporary = into / f".{FILE}.{os.getpid()}"
        temporary.write_bytes(linked.read_bytes())
        temporary.chmod(0o755)
        temporary.replace(target)
    return target


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
            build_data["force_include"][str(shim)] = FILE
            build_data["force_include_editable"][str(shim)] = FILE


def main() -> None:
    parser = argparse.ArgumentParser(description="Compile the C shim of Corral into a folder.")
    parser.add_argument("--into", type=Path, required=True, help="folder that gets " + FILE)
    parser.add_argument("--sanitize", action="store_true", help="with AddressSanitizer and UBSan")
    parser.add_argument("--without-uring", action="store_true", help="as where liburing is missing")
    options = parser.parse_args()
    print(compile_shim(options.into, options.sanitize, uring=not options.without_uring))


if __name__ == "__main__":
    sys.exit(main())
