"""Container images for tests, made of tar archives in memory: an OCI layout, `docker save`'s archive."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Files = Sequence[tuple[tarfile.TarInfo, bytes]]


def info(name: str, type: bytes = tarfile.REGTYPE, **fields: Any) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = type
    member.mode = 0o755 if type == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def text(name: str, content: str = "", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return info(name, **fields), content.encode()


def folder(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return info(name, tarfile.DIRTYPE, **fields), b""


def link(name: str, target: str, hard: bool = False) -> tuple[tarfile.TarInfo, bytes]:
    return info(name, tarfile.LNKTYPE if hard else tarfile.SYMTYPE, linkname=target), b""


def layer(*files: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as tar:
        for member, data in files:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Layout:
    """An OCI layout in `path`; what is put in is whatever a test wants of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.entries: list[dict[str, Any]] = []

    def blob(self, data: bytes, kind: str = "layer.v1.tar+gzip") -> dict[str, Any]:
        """Its descriptor."""
        name = digest(data)
        (self.path / "blobs" / name.replace(":", "/")).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": name, "size": len(data)}

    def document(self, value: Any, kind: str = "config.v1+json") -> dict[str, Any]:
        return self.blob(json.dumps(value).encode(), kind)

    def image(
        self, layers: Sequence[bytes], config: dict[str, Any] | None = None, packed: bool = True, **about: Any
    ) -> dict[str, Any]:
        """The descriptor of an image's manifest."""
        described = {
            "os": "linux",
            "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [digest(data) for data in layers]},
            "config": config or {},
            **about,
        }
        stored = [
            self.blob(gzip.compress(data, 1, mtime=0)) if packed else self.blob(data, "layer.v1.tar") for data in layers
        ]
        return self.manifest(self.document(described), stored)

    def manifest(self, config: dict[str, Any], layers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        value = {"schemaVersion": 2, "config": config, "layers": list(layers)}
        return self.document(value, "manifest.v1+json")

    def add(self, descriptor: dict[str, Any], tag: str = "", **more: Any) -> None:
        """Lists it in the index."""
        annotations = {"org.opencontainers.image.ref.name": tag} if tag else {}
        self.entries.append({**descriptor, "annotations": annotations, **more})
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self.entries}))

    def archive(self, path: Path) -> None:
        with tarfile.open(path, "w") as tar:
            tar.add(self.path, ".")


def docker_archive(path: Path, layers: Sequence[bytes], config: dict[str, Any] | None = None, tag: str = "") -> None:
    described = {
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [digest(data) for data in layers]},
        "config": config or {},
    }
    data = json.dumps(described).encode()
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": [tag] if tag else None, "Layers": names}]
    files = [(info("config.json"), data), (info("manifest.json"), json.dumps(manifest).encode())]
    files += [(info(name), content) for name, content in zip(names, layers, strict=True)]
    path.write_bytes(layer(*files))
