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


def compile_shim(into: Path, sanitize: bool = False) -> Path:
    """Compiles csrc/*.c (all warnings are errors) and the generated module into `into`; returns the module."""
    into.mkdir(parents=True, exist_ok=True)
    compiler = shlex.split(os.environ.get("CC", "gcc"))
    flags = ["-O2", "-std=gnu11", "-fPIC", "-pthread", "-fvisibility=hidden", f"-I{CSRC}"]
    if sanitize:
        flags += SANITIZE
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
        link = [*compiler, "-shared", "-pthread", *(SANITIZE if sanitize else []), *objects, "-o", str(linked)]
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
    options = parser.parse_args()
    print(compile_shim(options.into, options.sanitize))


if __name__ == "__main__":
    sys.exit(main())
