"""From an image's layers to its file system in the cache."""

from __future__ import annotations

import json
import os

from corral.errors import HostError
from corral.guests import cache
from corral.images.content import size_text
from corral.images.erofs import Writer
from corral.oci import store
from corral.oci.layers import Layers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.oci.documents import ImageConfig

_LARGEST = 256 << 30  # bytes of an image


def build(digest: str, config: ImageConfig, apply: Callable[[Layers], None], progress: Callable[[str], None]) -> None:
    """Makes the image with that digest, if it is not there, and keeps the cache within its limit then; `apply` brings
    the layers. Raises what that does."""
    most = store.limit()
    folder = store.folder_of(digest)
    with cache.making(folder, progress) as unfinished:
        if unfinished is None:
            return
        limit = min(room(unfinished), _LARGEST)
        fd = os.open(os.path.join(unfinished, store.ROOT), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            too_large = f"unpacks to more than {size_text(limit)}; free some space, or build it smaller"
            tree = Layers(Writer(fd, limit, too_large))
            apply(tree)
            progress("writing the image's folders")
            tree.finish()
        except MemoryError:
            raise HostError("not enough memory to unpack the image; free some") from None
        finally:
            os.close(fd)
        with open(os.path.join(unfinished, store.ABOUT), "w") as file:
            json.dump({name: getattr(config, name) for name in config.__match_args__}, file, indent=1)
    store.keep_within(most)


def room(folder: str) -> int:
    """Bytes that may be written there: what is free, but for a tenth."""
    about = os.statvfs(folder)
    return about.f_bavail * about.f_frsize * 9 // 10
