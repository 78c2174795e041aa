"""Snapshots in a store that many hosts reach: a folder, or what fsspec reaches, as s3://BUCKET/FOLDER (docs/store.md).

    corral.store.push("web.snapshot", "s3://guests/web")
    corral.store.pull("s3://guests/web", "web.snapshot")

A store has each chunk of its snapshots once, under the SHA-256 of what is in it, and a manifest for each snapshot.
"""

from corral.store.fetching import local_copy, pull
from corral.store.kept import StoredSnapshot, prune, remove, snapshots
from corral.store.sending import Pushed, push

__all__ = ["Pushed", "StoredSnapshot", "local_copy", "prune", "pull", "push", "remove", "snapshots"]
