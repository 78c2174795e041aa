"""What describes a container image: an index, a manifest, a configuration; refused in one line, or of clean words."""

from __future__ import annotations

import json

from corral.files.file import Flaw
from corral.oci import documents
from tests.fuzz.targets import one_line

LONGEST = 4096
CONCERNED = ("corral.oci.documents",)
_DIGEST = "sha256:" + "5" * 64
_BLOB = {"digest": _DIGEST, "size": 5}


def one(data: bytes) -> None:
    for read in (_index, _manifest, _config):
        try:
            read(data)
        except Flaw as flaw:
            one_line(flaw)


def _index(data: bytes) -> None:
    def fetch(about: documents.Descriptor) -> bytes:
        assert len(about.digest) == len(_DIGEST)
        return data

    documents.resolved(data, fetch)


def _manifest(data: bytes) -> None:
    found = documents.manifest(documents.document(data, "manifest"))
    assert all(layer.size >= 0 for layer in (found.config, *found.layers))


def _config(data: bytes) -> None:
    found = documents.document(data, "configuration")
    documents.diff_ids(found, None)
    config = documents.image_config(found)
    words = [*config.entrypoint, *config.cmd, *config.env, *config.volumes, *config.exposed_ports]
    words += [config.user, config.working_dir, config.stop_signal, *config.labels, *config.labels.values()]
    for word in words:
        assert b"\0" not in word.encode()


SEEDS = [
    json.dumps(value).encode()
    for value in (
        {"manifests": [{**_BLOB, "platform": {"os": "linux", "architecture": "amd64", "variant": "v2"}}]},
        {"manifests": [_BLOB]},
        {"config": _BLOB, "layers": [{**_BLOB, "mediaType": "application/vnd.oci.image.layer.v1.tar"}]},
        {
            "os": "linux",
            "rootfs": {"diff_ids": [_DIGEST]},
            "config": {
                "Cmd": ["a"],
                "Env": ["A=b"],
                "User": "u",
                "Labels": {"a": "b"},
                "ExposedPorts": {"80/tcp": {}},
                "Volumes": {"/v": {}},
            },
        },
    )
]
