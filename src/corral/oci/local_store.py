"""Images in the stores of this host's container engines: podman's and buildah's, and Docker's, read by skopeo."""

from __future__ import annotations

import os
from contextlib import contextmanager

from corral.oci import archive, build, documents, skopeo, store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corral.oci.contents import Contents
    from corral.oci.reference import Reference


def identity(wanted: Reference) -> str:
    """Of the image as the store has it now: its configuration's digest. Raises BootError, HostError."""
    skopeo.require()
    return documents.digest_of(skopeo.output(["inspect", "--config", "--raw", wanted.name]))


@contextmanager
def opened(wanted: Reference, progress: Callable[[str], None]) -> Iterator[Contents]:
    """While it is open a copy of it is in a folder of the cache."""
    progress(f"copying {wanted.name}")
    with store.scratch() as folder:
        copy = os.path.join(folder, "copy.tar")
        skopeo.output(["copy", "--quiet", wanted.name, f"docker-archive:{copy}"])
        files = os.path.join(folder, "files")
        os.mkdir(files)
        yield archive.of_docker(archive.Unpacked(copy, files, build.room(folder), progress), "")
