"""The user's cache folder. Everything in it can be deleted at any time and is made again."""

from __future__ import annotations

import os

_UNFINISHED = ".unfinished-"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


def folder(*parts: str) -> str:
    """$XDG_CACHE_HOME/corral, or ~/.cache/corral, and below it `parts`; nothing is created."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "corral", *parts)


def making(
    target: str, progress: Callable[[str], None] = lambda text: None
) -> AbstractContextManager[str | None, bool | None]:
    """Makes the folder `target` once: gives a folder to fill, which becomes `target` at the end, or None when it
    is there already. Of several processes one makes it and the others wait. An interrupted one leaves nothing, and
    what a killed one left goes when the next begins."""
    if os.path.isdir(target):
        return _There()
    from contextlib import contextmanager

    return contextmanager(_make)(target, progress)


class _There:
    """Nothing to make. Most starts of a guest come by here, and contextlib takes 3 ms to import."""

    def __enter__(self) -> None: ...

    def __exit__(self, *exception: object) -> None: ...


def _make(target: str, progress: Callable[[str], None]) -> Iterator[str | None]:
    import fcntl
    import shutil
    import tempfile

    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(f"{target}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another process that makes {os.path.basename(target)}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.isdir(target):
            yield None
            return
        parent, name = os.path.split(target)
        for left in os.listdir(parent):
            if left.startswith(f"{name}{_UNFINISHED}"):
                shutil.rmtree(os.path.join(parent, left), ignore_errors=True)
        unfinished = tempfile.mkdtemp(prefix=f"{name}{_UNFINISHED}", dir=parent)
        try:
            yield unfinished
            os.chmod(unfinished, 0o755)
            os.rename(unfinished, target)
        except BaseException:
            progress("tidying up")  # a kernel's source is many files
            raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
