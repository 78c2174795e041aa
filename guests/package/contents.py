"""What the package corral-kernel has: the small kernel and the busybox of this checkout, and what they are built from.

hatchling takes the version and the files from here:  hatchling build -t wheel -d FOLDER
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

from corral.guests import carried_kernel, debian, initramfs, kernel, sources

TAG = "py3-none-manylinux_2_17_x86_64"  # no file of it uses a C library


def version() -> str:
    return kernel.get(kernel.SMALL, print).version


def about(found: kernel.KernelFile) -> dict[str, str]:
    source = debian.dependency("linux-source", "linux-source-")
    return {
        "version": found.version,
        "key": kernel.key(found.version),
        "linux": f"{source} {found.version}",
        "busybox": f"busybox-static {debian.candidate('busybox-static')}",
    }


class Contents(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        found = kernel.get(kernel.SMALL, print)
        self.folder = tempfile.TemporaryDirectory()
        made = Path(self.folder.name)
        (made / "__init__.py").write_text('"""Corral\'s small kernel; see about.json."""\n')
        (made / carried_kernel.ABOUT).write_text(json.dumps(about(found), indent=2) + "\n")
        busybox = made / carried_kernel.BUSYBOX
        busybox.write_bytes(initramfs.busybox())
        busybox.chmod(0o755)
        built = Path(found.path).parent
        files = {name: made / name for name in ("__init__.py", carried_kernel.ABOUT, carried_kernel.BUSYBOX)}
        files |= {name: built / name for name in (carried_kernel.KERNEL, carried_kernel.SYMBOLS, "config")}
        build_data["force_include"] |= {str(file): f"{carried_kernel.MODULE}/{name}" for name, file in files.items()}
        source = os.path.realpath(sources.folder("linux"))
        build_data["force_include"][source] = f"{carried_kernel.MODULE}/source"
        build_data["pure_python"] = False
        build_data["tag"] = TAG
