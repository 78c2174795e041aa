"""Container images: found by the names that people use, and made a read-only EROFS file system each, in the cache.

prepare() does all of it. A module a subject: names (reference.py), the documents that describe an image
(documents.py), where it comes from (layout.py, archive.py, registry.py, local_store.py, rootfs.py), its layers
(contents.py, layers.py), the file system (build.py) and the cache (store.py).
"""

from __future__ import annotations

from corral.oci.documents import ImageConfig
from corral.oci.image import Image, prepare

__all__ = ["Image", "ImageConfig", "prepare"]
