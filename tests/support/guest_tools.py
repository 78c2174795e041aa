"""This machine's own programs in a guest: Corral's initramfs with them and the libraries that they need."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path

from corral.files.cpio import entry, trailer
from corral.guests import cache, initramfs, sources


def initramfs_with(programs: list[str]) -> str:
    """The path of an archive in the cache, where a nested host sees it too. The programs, names or paths, are in
    /usr/bin."""
    files: dict[str, bytes] = {}
    for program in programs:
        path = shutil.which(program)
        assert path, f"{program} is not installed"
        files[f"usr/bin/{Path(path).name}"] = Path(path).read_bytes()
        listed = subprocess.run(["ldd", path], capture_output=True, text=True).stdout  # nothing of a static one
        for library in re.findall(r"(/\S+) \(0x", listed):
            files[library.lstrip("/")] = Path(library).read_bytes()
    folders = {str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}
    archive = Path(initramfs.path()).read_bytes()
    archive += b"".join(entry(name, stat.S_IFDIR | 0o755) for name in sorted(folders))
    archive += b"".join(entry(name, stat.S_IFREG | 0o755, content) for name, content in files.items()) + trailer()
    target = cache.folder("nested", f"tools_{sources.digest(archive)}")
    with cache.making(target) as unfinished:
        if unfinished:
            (Path(unfinished) / "initramfs.cpio").write_bytes(archive)
    return str(Path(target) / "initramfs.cpio")
