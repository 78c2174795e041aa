"""Images in the store of buildah, and of podman, which is the same."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from corral import oci
from corral.errors import BootError
from tests.support import erofs_reader


class Store:
    """One in a folder of the test's own, that needs no overlayfs of the host."""

    def __init__(self, folder: Path) -> None:
        self._options = ["--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]
        self.name = f"containers-storage:[vfs@{folder}/root+{folder}/run]localhost/app"

    def buildah(self, *words: str) -> str:
        done = subprocess.run(["buildah", *self._options, *words], capture_output=True, text=True)
        if done.returncode and words[0] == "from":
            pytest.skip(f"buildah cannot make a container here: {done.stderr.strip()[-200:]}")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    if not shutil.which("buildah"):
        pytest.skip("buildah is not installed")
    return Store(tmp_path / "containers")


def commit(store: Store, tmp_path: Path, content: str) -> None:
    container = store.buildah("from", "scratch")
    (tmp_path / "name").write_text(content)
    store.buildah("copy", container, str(tmp_path / "name"), "/etc/name")
    store.buildah("config", "--cmd", "/bin/sh", "--env", "A=b", "--port", "80", container)
    store.buildah("commit", container, "localhost/app:1")


def test_an_image_of_buildah(store: Store, tmp_path: Path) -> None:
    commit(store, tmp_path, "one")
    first = oci.prepare(f"{store.name}:1")
    assert erofs_reader.read(first.root)["/etc/name"].data == b"one"
    assert (first.config.cmd[-1], first.config.exposed_ports) == ("/bin/sh", ("80",))
    assert "A=b" in first.config.env
    assert oci.prepare(f"{store.name}:1") == first
    commit(store, tmp_path, "two")
    assert erofs_reader.read(oci.prepare(f"{store.name}:1").root)["/etc/name"].data == b"two"
    with pytest.raises(BootError, match="does not resolve"):
        oci.prepare(f"{store.name}:none")
