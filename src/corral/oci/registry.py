"""Images in registries: fetched by skopeo, while what is there already is unpacked."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager

from corral.errors import BootError, HostError
from corral.files.file import Flaw
from corral.images.content import size_text
from corral.oci import build, documents, layout, skopeo, store
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corral.oci.contents import Contents
    from corral.oci.reference import Reference

_LOOKED = 0.2  # seconds between two looks at how far a layer is


@record(frozen=True)
class Found:
    """The manifest for this platform, as the registry has it now."""

    data: bytes
    digest: str


def found(wanted: Reference) -> Found:
    """Raises Flaw, BootError, HostError."""
    skopeo.require()
    options = skopeo.words(wanted.host)

    def fetch(about: documents.Descriptor) -> bytes:
        return skopeo.output(["inspect", "--raw", *options, f"docker://{wanted.place}@{about.digest}"])

    if wanted.digest:
        data = fetch(documents.Descriptor(wanted.digest, 0))
        documents.require_digest(data, wanted.digest, "manifest")
    else:
        data = skopeo.output(["inspect", "--raw", *options, f"docker://{wanted.place}:{wanted.tag}"])
    return Found(*documents.resolved(data, fetch))


@contextmanager
def opened(wanted: Reference, about: Found, progress: Callable[[str], None]) -> Iterator[Contents]:
    """What `about` describes; its layers come while it is open."""
    manifest = documents.manifest(documents.document(about.data, "manifest"))
    total = sum(layer.size for layer in manifest.layers)
    options = skopeo.words(wanted.host)
    with (
        store.using_blobs() as folder,
        skopeo.Server(f"docker://{wanted.place}@{about.digest}", options) as server,
    ):
        if total > build.room(folder):
            raise HostError(f"the image has {size_text(total)} of layers, more than there is room for; free some")
        fetcher = _Fetcher(server, folder)

        def blob(wanted: documents.Descriptor) -> bytes:
            if wanted.size > documents.LONGEST:
                raise Flaw("has a configuration that is too large; build it again")
            return layout.read(fetcher.get(wanted), documents.LONGEST, "configuration")

        described = layout.described(about.data, about.digest, blob, lambda layer: fetcher.wait(layer, progress))
        fetcher.start(manifest.layers)
        try:
            yield described
        finally:
            fetcher.stop()


class _Fetcher:
    """Layers, one after the other, by a thread."""

    def __init__(self, server: skopeo.Server, folder: str) -> None:
        from threading import Condition

        self._server, self._folder = server, folder
        self._changed = Condition()
        self._done: dict[str, str] = {}
        self._error: BaseException | None = None
        self._layers: tuple[documents.Descriptor, ...] = ()
        self._at = self._bytes = 0
        self._stopping = False

    def start(self, layers: tuple[documents.Descriptor, ...]) -> None:
        from threading import Thread

        self._layers = layers
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """skopeo ends, and with it what the thread waits for."""
        self._stopping = True
        self._server.kill()
        self._thread.join()

    def wait(self, layer: documents.Descriptor, progress: Callable[[str], None]) -> str:
        """Its file, when it is there. Raises what the fetching did."""
        with self._changed:
            while layer.digest not in self._done:
                if self._error is not None:
                    raise self._error
                self._tell(progress)
                self._changed.wait(_LOOKED)
            return self._done[layer.digest]

    def _tell(self, progress: Callable[[str], None]) -> None:
        if self._at < len(self._layers):
            size = self._layers[self._at].size
            part = 100 * self._bytes // max(size, 1)
            progress(f"fetching layer {self._at + 1} of {len(self._layers)}, {size_text(size)}, {part} %")

    def _run(self) -> None:
        try:
            for at, layer in enumerate(self._layers):
                self._at, self._bytes = at, 0
                path = self.get(layer)
                with self._changed:
                    self._done[layer.digest] = path
                    self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def get(self, wanted: documents.Descriptor) -> str:
        """The file in the cache that has that digest. It is compared when it is fetched, and when it is read."""
        path = os.path.join(self._folder, wanted.digest.removeprefix("sha256:"))
        if os.path.exists(path):
            return path
        part = f"{path}.part-{os.getpid()}"
        digest = hashlib.sha256()
        try:
            with open(part, "wb") as file:

                def save(data: bytes) -> None:
                    digest.update(data)
                    file.write(data)
                    self._bytes += len(data)
                    if self._stopping:
                        raise HostError("the fetching was ended")

                self._server.blob(wanted, save)
            if f"sha256:{digest.hexdigest()}" != wanted.digest:
                raise BootError(f"a registry sent something else than {wanted.digest}; try again")
            os.rename(part, path)
        finally:
            if os.path.exists(part):
                os.unlink(part)
        return path
