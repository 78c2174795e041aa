"""Images from a registry on this machine: Debian's docker-registry, and one that lies."""

from __future__ import annotations

import http.server
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral import oci
from corral.cli import main
from corral.errors import ConfigError, CorralError, HostError
from corral.oci import store
from tests.support import erofs_reader
from tests.support.container_images import Layout, digest, folder, info, layer, text

BASE = layer(folder("etc"), text("etc/name", "base"), (info("big"), bytes(range(256)) * 20_000))
TOP = layer(text("etc/name", "top"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder_ = tmp_path_factory.mktemp("registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    storage = f"{{filesystem: {{rootdirectory: {folder_}/data}}}}"
    (folder_ / "config.yml").write_text(f'version: 0.1\nstorage: {storage}\nhttp: {{addr: "{address}"}}\n')
    process = subprocess.Popen(
        ["docker-registry", "serve", str(folder_ / "config.yml")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(address.split(":")[1]))).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < until, "the registry does not answer"
                time.sleep(0.05)
        yield address
    finally:
        process.kill()
        process.wait()


def push(layout: Layout, tag: str, name: str) -> None:
    command = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", "--preserve-digests"]
    subprocess.run([*command, f"oci:{layout.path}:{tag}", f"docker://{name}"], check=True)


def name_of(image: oci.Image) -> bytes:
    return erofs_reader.read(image.root)["/etc/name"].data


def test_an_image_is_fetched_once(layout: Layout, registry: str, cache: Path) -> None:
    manifest = layout.image([BASE, TOP], {"Cmd": ["sh"]})
    layout.add(manifest, "one")
    push(layout, "one", f"{registry}/team/app:1")
    said: list[str] = []
    image = oci.prepare(f"{registry}/team/app:1", progress=said.append)
    assert (image.digest, name_of(image), image.config.cmd) == (manifest["digest"], b"top", ("sh",))
    assert erofs_reader.read(image.root)["/big"].data == bytes(range(256)) * 20_000
    assert any(text.startswith("unpacking layer 2 of 2") for text in said)
    kept = {path.name for path in (cache / "container-layers/sha256").iterdir()}
    assert len(kept) == 3
    said.clear()
    assert oci.prepare(f"{registry}/team/app:1", progress=said.append, pull="never") == image
    assert said == []
    by_digest = oci.prepare(f"{registry}/team/app@{image.digest}", pull="never")
    assert (by_digest.root, by_digest.digest) == (image.root, image.digest)


def test_a_name_may_stand_for_another_image_later(layout: Layout, registry: str, cache: Path) -> None:
    layout.add(layout.image([BASE]), "one")
    layout.add(layout.image([BASE, TOP]), "two")
    name = f"{registry}/team/moving:1"
    push(layout, "one", name)
    first = oci.prepare(name)
    layers = {path.name: path.stat().st_ino for path in (cache / "container-layers/sha256").iterdir()}
    push(layout, "two", name)
    assert oci.prepare(name) == first
    second = oci.prepare(name, pull="always")
    assert (name_of(first), name_of(second)) == (b"base", b"top")
    now = {path.name: path.stat().st_ino for path in (cache / "container-layers/sha256").iterdir()}
    assert layers.items() <= now.items()  # what both have was not fetched again
    assert store.prune() > 0  # the first has no name any more
    assert [image.digest for image in store.listed()] == [second.digest]


def test_what_a_registry_does_not_have(registry: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (f"{registry}/none:1", f"{registry}/team/none@sha256:{'0' * 64}"):
        assert main(["pull", name]) == 2
        said = capsys.readouterr().err.splitlines()
        assert "manifest unknown" in said[-1]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(HostError, match="connection refused"):
            oci.prepare(f"127.0.0.1:{free.getsockname()[1]}/x:1")
    with pytest.raises(ConfigError, match="never fetches none"):
        oci.prepare(f"{registry}/none:1", pull="never")


class Liar:
    """A registry that sends what a test wants it to, by path; each answer is as long as it says or, at last, longer."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.stalled = ""  # the blob that does not come to its end, until go_on is set
        self.go_on = threading.Event()
        liar = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = liar.answers.get(self.path.rpartition("/")[2], b"")
                self.send_response(200 if data or self.path == "/v2/" else 404)
                self.send_header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command == "GET":
                    try:
                        if liar.stalled and self.path.endswith(liar.stalled):
                            self.wfile.write(data[:-1])
                            liar.go_on.wait(60)
                            return
                        self.wfile.write(data)
                    except (BrokenPipeError, ConnectionResetError):
                        pass

            do_HEAD = do_GET

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.name = f"127.0.0.1:{self.server.server_address[1]}/x"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def serve(self, layout: Layout, manifest: dict[str, object], tag: str) -> None:
        for path in (layout.path / "blobs/sha256").iterdir():
            self.answers[f"sha256:{path.name}"] = path.read_bytes()
        self.answers[tag] = self.answers[str(manifest["digest"])]


@pytest.fixture
def liar() -> Iterator[Liar]:
    found = Liar()
    yield found
    found.go_on.set()
    found.server.shutdown()
    found.server.server_close()
    found.thread.join()


def refused(name: str, cache: Path) -> str:
    with pytest.raises(CorralError) as caught:
        oci.prepare(name)
    assert str(caught.value).isprintable()
    assert [path for path in cache.rglob("*") if path.suffix == ".erofs" or ".part" in path.name] == []
    return str(caught.value)


def test_a_registry_that_is_honest(layout: Layout, liar: Liar) -> None:
    liar.serve(layout, layout.image([BASE, TOP]), "1")
    assert name_of(oci.prepare(f"{liar.name}:1")) == b"top"


def test_a_registry_that_lies(layout: Layout, liar: Liar, cache: Path) -> None:
    manifest = layout.image([BASE, TOP])
    liar.serve(layout, manifest, "1")
    honest = dict(liar.answers)
    described = json.loads(honest[manifest["digest"]])
    config, layers = described["config"]["digest"], [each["digest"] for each in described["layers"]]
    lies = {
        config: honest[config].replace(b"amd64", b"AMD64"),
        layers[0]: honest[layers[1]],
        layers[1]: honest[layers[1]] + bytes(100_000),
    }
    for name, data in lies.items():
        liar.answers = {**honest, name: data}
        assert refused(f"{liar.name}:1", cache)
    liar.answers = {**honest, manifest["digest"]: honest[manifest["digest"]] + b" "}
    assert refused(f"{liar.name}@{manifest['digest']}", cache)
    liar.answers = {**honest, "1": b"\xff" * 100}
    assert refused(f"{liar.name}:1", cache)
    liar.answers = {**honest, "1": b'{"a": "' + b"x" * (20 << 20) + b'"}'}
    assert refused(f"{liar.name}:1", cache)


def test_a_manifest_that_asks_for_more_than_there_is_room_for(layout: Layout, liar: Liar, cache: Path) -> None:
    config = layout.document({"rootfs": {"diff_ids": [digest(TOP)]}})
    huge = {"digest": "sha256:" + "1" * 64, "size": 1 << 40, "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}
    liar.serve(layout, layout.manifest(config, [huge] * 100), "1")
    assert "room" in refused(f"{liar.name}:1", cache)


@pytest.mark.parametrize("which", ["layer", "config"])
def test_a_signal_ends_the_fetching_from_a_registry_that_stalls(
    which: str, layout: Layout, liar: Liar, cache: Path
) -> None:
    manifest = layout.image([BASE, TOP])
    liar.serve(layout, manifest, "1")
    described = json.loads(liar.answers[manifest["digest"]])
    liar.stalled = (described["config"] if which == "config" else described["layers"][0])["digest"]
    code = "import sys; from corral.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", code, "pull", f"{liar.name}:1"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as pull:
        assert pull.stderr is not None
        expected = "fetching layer 1 of 2" if which == "layer" else "asking"
        said: list[str] = []
        while expected not in "".join(said[-1:]):
            said.append(pull.stderr.readline())
            assert said[-1], said
        if which == "config":
            parts = cache / "container-layers/sha256"
            while not (parts.exists() and list(parts.glob("*.part-*"))):
                assert pull.poll() is None
                time.sleep(0.01)
        pull.send_signal(signal.SIGTERM)
        assert pull.wait(60) == 128 + signal.SIGTERM
        assert "Traceback" not in pull.stderr.read()
    assert not liar.go_on.is_set()
    assert [path for path in cache.rglob("*") if path.suffix == ".erofs" or ".part" in path.name] == []
