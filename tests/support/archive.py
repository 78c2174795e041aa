"""An archive of packages that apt takes from a folder, and a host that has it and nothing else for its sources."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SETTINGS = """
APT::Sandbox::User "";
APT::Architectures { "amd64"; };
Dir::Etc::sourcelist "FOLDER/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferencesparts "-";
Dir::State "FOLDER/state";
Dir::State::status "/dev/null";
Dir::Cache "FOLDER/cache";
"""


@dataclass(frozen=True)
class Package:
    """Version 1 of a package."""

    name: str
    depends: str = ""
    files: dict[str, bytes] = field(default_factory=dict)


def make(folder: Path, packages: Iterable[Package], origin: str, suite: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes the archive below `folder`, and both apt and Corral's cache use it from now on. Returns where it is."""
    archive = folder / "archive"
    pool = archive / "pool"
    pool.mkdir(parents=True)
    index = "".join(_built(pool, package) for package in packages)
    listed = archive / "dists" / suite / "main" / "binary-amd64" / "Packages"
    listed.parent.mkdir(parents=True)
    listed.write_text(index)
    digest = hashlib.sha256(index.encode()).hexdigest()
    lines = [f"Origin: {origin}", f"Suite: {suite}", f"Codename: {suite}", "Components: main", "Architectures: amd64"]
    lines += ["Date: Thu, 25 Apr 2024 15:10:33 UTC", "SHA256:"]
    lines += [f" {digest} {len(index)} main/binary-amd64/Packages"]
    (archive / "dists" / suite / "Release").write_text("\n".join(lines) + "\n")
    for part in ("state/lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    (folder / "sources.list").write_text(f"deb [trusted=yes] file:{archive} {suite} main\n")
    (folder / "apt.conf").write_text(SETTINGS.replace("FOLDER", str(folder)))
    monkeypatch.setenv("APT_CONFIG", str(folder / "apt.conf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "corral"))
    subprocess.run(["apt-get", "update"], check=True, capture_output=True)
    return archive


def _built(pool: Path, package: Package) -> str:
    """Builds it into `pool`; returns its entry of the archive's index."""
    tree = pool / f"{package.name}.tree"
    control = f"Package: {package.name}\nVersion: 1\nArchitecture: amd64\nMaintainer: tests\nDescription: a test\n"
    control += f"Depends: {package.depends}\n" if package.depends else ""
    for path, content in {"DEBIAN/control": control.encode(), **package.files}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
    target = pool / f"{package.name}_1_amd64.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(target)], check=True, capture_output=True
    )
    data = target.read_bytes()
    return f"{control}Filename: pool/{target.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n\n"
