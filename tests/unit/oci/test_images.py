"""Images from layouts, archives and folders of this host: what is taken, and what is refused in one line."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from corral import oci
from corral.errors import BootError, ConfigError
from tests.support import erofs_reader
from tests.support.container_images import Layout, docker_archive, folder, info, layer, link, text

ONE = layer(folder("etc"), text("etc/name", "one"))
TWO = layer(text("etc/name", "two"), text("more"))
CONFIG = {
    "Entrypoint": ["/bin/sh", "-c"],
    "Cmd": ["echo hi"],
    "Env": ["PATH=/bin", "EMPTY="],
    "User": "1000:1000",
    "WorkingDir": "/srv",
    "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
    "Volumes": {"/data": {}},
    "StopSignal": "SIGQUIT",
    "Labels": {"a": "b"},
}


def files(image: oci.Image) -> dict[str, bytes]:
    return {name: file.data for name, file in erofs_reader.read(image.root).items() if file.mode & 0o170000 == 0o100000}


def refused(name: str, cache: Path) -> str:
    """What is said; nothing is left of it."""
    with pytest.raises((BootError, ConfigError)) as caught:
        oci.prepare(name)
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 1000
    images = cache / "container-images"
    left = [path.name for path in images.iterdir() if path.is_dir()] if images.exists() else []
    assert left == []
    return said


def test_an_image_of_a_layout(layout: Layout) -> None:
    manifest = layout.image([ONE, TWO], CONFIG)
    layout.add(manifest, "v1")
    layout.add(layout.image([ONE]), "v2")
    image = oci.prepare(f"oci:{layout.path}:v1")
    assert image.digest == manifest["digest"]
    assert image.name == f"oci:{layout.path}:v1"
    assert files(image) == {"/etc/name": b"two", "/more": b""}
    assert image.config == oci.ImageConfig(
        entrypoint=("/bin/sh", "-c"),
        cmd=("echo hi",),
        env=("PATH=/bin", "EMPTY="),
        user="1000:1000",
        working_dir="/srv",
        exposed_ports=("80/tcp", "53/udp"),
        volumes=("/data",),
        stop_signal="SIGQUIT",
        labels={"a": "b"},
    )
    assert files(oci.prepare(f"oci:{layout.path}:v2")) == {"/etc/name": b"one"}


def test_it_is_made_once_and_the_same_again(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout.add(layout.image([ONE, TWO]))
    first = oci.prepare(f"oci:{layout.path}")
    assert oci.prepare(f"oci:{layout.path}").root.stat().st_ino == first.root.stat().st_ino
    data = first.root.read_bytes()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    again = oci.prepare(f"oci:{layout.path}")
    assert again.root != first.root
    assert again.root.read_bytes() == data


@pytest.mark.parametrize("packed", [True, False])
def test_archives(packed: bool, layout: Layout, tmp_path: Path) -> None:
    manifest = layout.image([ONE, TWO], CONFIG, packed)
    layout.add(manifest, "v1")
    layout.archive(tmp_path / "oci.tar")
    image = oci.prepare(f"oci-archive:{tmp_path}/oci.tar:v1")
    assert (image.digest, files(image)["/etc/name"]) == (manifest["digest"], b"two")
    docker_archive(tmp_path / "docker.tar", [ONE, TWO], CONFIG, "app:1")
    for name in ("", ":app:1", ":docker.io/library/app:1"):
        saved = oci.prepare(f"docker-archive:{tmp_path}/docker.tar{name}")
        assert (files(saved)["/etc/name"], saved.config) == (b"two", image.config)
    with pytest.raises(BootError, match="has no image app:2; there is app:1"):
        oci.prepare(f"docker-archive:{tmp_path}/docker.tar:app:2")
    docker_archive(tmp_path / "docker.tar", [TWO, ONE], CONFIG, "app:1")
    assert files(oci.prepare(f"docker-archive:{tmp_path}/docker.tar"))["/etc/name"] == b"one"


def test_a_folder(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/name").write_text("one")
    (root / "etc/name").chmod(0o4711)
    os.link(root / "etc/name", root / "same")
    (root / "link").symlink_to("/etc/name")
    os.mkfifo(root / "pipe")
    os.setxattr(root / "etc", "user.a", b"b")
    image = oci.prepare(str(root))
    found = erofs_reader.read(image.root)
    assert sorted(found) == ["", "/etc", "/etc/name", "/link", "/pipe", "/same"]
    assert (found["/etc/name"].mode, found["/etc/name"].links, found["/etc/name"].uid) == (0o104711, 2, 0)
    assert found["/etc"].xattrs == {"user.a": b"b"}
    assert oci.prepare(str(root)).digest == image.digest
    (root / "etc/name").write_text("two")
    assert files(oci.prepare(str(root)))["/same"] == b"two"


def test_the_right_platform(layout: Layout) -> None:
    arm, amd = layout.image([TWO], architecture="arm64"), layout.image([ONE])
    newer = layout.image([TWO])
    index = {
        "manifests": [
            {**arm, "platform": {"os": "linux", "architecture": "arm64"}},
            {**newer, "platform": {"os": "linux", "architecture": "amd64", "variant": "v3"}},
            {**amd, "platform": {"os": "linux", "architecture": "amd64"}},
            {**arm, "platform": {"os": "unknown", "architecture": "unknown"}},
        ]
    }
    layout.add(layout.document(index, "index.v1+json"))
    assert oci.prepare(f"oci:{layout.path}").digest == amd["digest"]


def test_images_for_others(layout: Layout, cache: Path) -> None:
    arm = layout.image([ONE], architecture="arm64")
    layout.add({**arm, "platform": {"os": "linux", "architecture": "arm64"}}, "one")
    index = {"manifests": [{**arm, "platform": {"os": "linux", "architecture": "arm64"}}, {**arm, "platform": 7}]}
    layout.add(layout.document(index), "many")
    assert "is for linux/arm64" in refused(f"oci:{layout.path}:one", cache)
    assert "nothing for linux/amd64; there is linux/arm64" in refused(f"oci:{layout.path}:many", cache)
    assert "name one behind the path" in refused(f"oci:{layout.path}", cache)
    assert "has no image three; there is many, one" in refused(f"oci:{layout.path}:three", cache)


def nested(layout: Layout, depth: int) -> dict[str, Any]:
    found = layout.image([ONE])
    for _ in range(depth):
        found = layout.document({"manifests": [{**found, "platform": {"os": "linux", "architecture": "amd64"}}]})
    return found


def test_indexes_without_end(layout: Layout, cache: Path) -> None:
    layout.add(nested(layout, 2), "two")
    layout.add(nested(layout, 50), "many")
    assert files(oci.prepare(f"oci:{layout.path}:two"))
    assert "without end" in _refused_here(f"oci:{layout.path}:many")


def _refused_here(name: str) -> str:
    with pytest.raises(BootError) as caught:
        oci.prepare(name)
    return str(caught.value)


def test_digests_that_lie(layout: Layout, cache: Path) -> None:
    manifest = layout.image([ONE, TWO])
    layout.add(manifest)
    blobs = layout.path / "blobs/sha256"
    described = json.loads((blobs / manifest["digest"][7:]).read_bytes())
    for descriptor in (manifest, described["config"], described["layers"][1]):
        path = blobs / descriptor["digest"][7:]
        right = path.read_bytes()
        wrong = gzip.compress(ONE, 1) if descriptor is described["layers"][1] else right.replace(b" ", b"\t", 1)
        path.write_bytes(wrong)
        assert "sha256:" in refused(f"oci:{layout.path}", cache)
        path.write_bytes(right)
    assert files(oci.prepare(f"oci:{layout.path}"))


def test_a_layer_that_unpacks_to_another(layout: Layout, cache: Path) -> None:
    config = layout.document({"rootfs": {"diff_ids": ["sha256:" + "0" * 64]}})
    layout.add(layout.manifest(config, [layout.blob(gzip.compress(ONE))]))
    assert "unpacks to sha256:" in refused(f"oci:{layout.path}", cache)


def test_a_layer_that_is_a_bomb(layout: Layout, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral.oci.contents._SMALL", 1 << 20)
    layout.add(layout.image([layer((info("zeros"), bytes(64 << 20)))]))
    assert "as a bomb does" in refused(f"oci:{layout.path}", cache)


def test_a_layer_that_ends_too_early(layout: Layout, cache: Path) -> None:
    layout.add(layout.image([ONE[:700]]))
    assert "ends too early" in refused(f"oci:{layout.path}", cache)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ([], "configuration"),
        ({"Cmd": "echo"}, "Cmd"),
        ({"Cmd": [1]}, "Cmd"),
        ({"Cmd": ["a\0b"]}, "Cmd"),
        ({"Cmd": ["\ud800"]}, "Cmd"),
        ({"Env": ["PATH"]}, "NAME=VALUE"),
        ({"Env": ["=x"]}, "NAME=VALUE"),
        ({"Labels": {"a": 1}}, "Labels"),
        ({"Labels": ["a"]}, "Labels"),
        ({"ExposedPorts": ["80"]}, "ExposedPorts"),
        ({"User": {"name": "root"}}, "User"),
        ({"WorkingDir": ["/"]}, "WorkingDir"),
    ],
)
def test_configurations_with_anything(config: Any, complaint: str, layout: Layout, cache: Path) -> None:
    described = {"rootfs": {"diff_ids": []}, "config": config}
    layout.add(layout.manifest(layout.document(described), []))
    assert complaint in refused(f"oci:{layout.path}", cache)


def test_configurations_that_say_nothing(layout: Layout) -> None:
    nothing = dict.fromkeys(["Cmd", "Env", "Labels", "User", "Volumes", "ExposedPorts", "Entrypoint"])
    layout.add(layout.image([ONE], nothing))
    assert oci.prepare(f"oci:{layout.path}").config == oci.ImageConfig(labels={})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"manifests": 5}',
        b'{"manifests": [5]}',
        b'{"manifests": []}',
        b'{"manifests": [{"digest": 5}]}',
        b'{"manifests": [{"digest": "sha256:../../../etc/passwd", "size": 5}]}',
        b'{"manifests": [{"digest": "sha512:' + b"0" * 64 + b'", "size": 5}]}',
        b'{"manifests": [{"digest": "sha256:' + b"0" * 64 + b'", "size": -5}]}',
        b'{"manifests": [{"digest": "sha256:' + b"0" * 64 + b'", "size": 1e400}]}',
        b'{"manifests": [{"digest": "sha256:' + b"0" * 64 + b'", "size": ' + b"9" * 5000 + b"}]}",
        b'{"manifests": [{"digest": "sha256:' + b"0" * 64 + b'", "size": true}]}',
        b'{"manifests": [{"digest": "sha256:' + b"0" * 64 + b'", "size": 5}]}',
        b'\xff\xfe{"manifests": []}',
    ],
)
def test_indexes_with_anything(data: bytes, layout: Layout, cache: Path) -> None:
    (layout.path / "index.json").write_bytes(data)
    refused(f"oci:{layout.path}", cache)


@pytest.mark.parametrize(
    "value",
    [
        {"schemaVersion": 1, "fsLayers": []},
        {"layers": {}},
        {"layers": []},
        {"layers": [5]},
        {"layers": [], "config": 7},
        {"layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+encrypted"}]},
        {"layers": [{}] * 1000},
    ],
)
def test_manifests_with_anything(value: Any, layout: Layout, cache: Path) -> None:
    layout.add(layout.document(value))
    refused(f"oci:{layout.path}", cache)


def test_archives_that_lead_elsewhere(tmp_path: Path, cache: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("secret")
    for name, target in (("manifest.json", str(outside)), ("manifest.json", "manifest.json"), ("a", "b")):
        path = tmp_path / "bad.tar"
        path.write_bytes(layer(link(name, target), text("../../escaped", "x"), text("/etc/escaped", "x")))
        assert refused(f"docker-archive:{path}", cache)
        assert refused(f"oci-archive:{path}", cache)
    assert not list(tmp_path.rglob("*escaped*"))


def test_an_archive_with_links_between_layers(tmp_path: Path) -> None:
    docker_archive(tmp_path / "new.tar", [ONE, ONE], tag="x")
    with tarfile.open(tmp_path / "new.tar") as tar, tarfile.open(tmp_path / "old.tar", "w") as old:
        for member in tar:
            data = tar.extractfile(member)
            if member.name == "1/layer.tar":
                member.type, member.linkname, member.size, data = tarfile.SYMTYPE, "../0/layer.tar", 0, None
            old.addfile(member, data)
    assert files(oci.prepare(f"docker-archive:{tmp_path}/old.tar")) == {"/etc/name": b"one"}


def test_files_that_are_no_archives(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "text").write_text("hello")
    assert refused(f"docker-archive:{tmp_path}/text", cache)
    assert "no such file" in refused(f"oci-archive:{tmp_path}/none", cache)
    assert "is a directory" in refused(f"docker-archive:{tmp_path}", cache)
    assert "there is no index.json" in refused(f"oci:{tmp_path}", cache)
    assert "no such folder" in refused(str(tmp_path / "none"), cache)


def test_pull_is_one_of_three(layout: Layout) -> None:
    with pytest.raises(ConfigError, match="missing, always, never"):
        oci.prepare("x", pull="often")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="never fetches none"):
        oci.prepare("x", pull="never")
