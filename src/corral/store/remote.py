"""A store that fsspec reaches: s3://, memory://, sftp:// and what else it has a file system for."""

from __future__ import annotations

import os
from typing import Any

from corral.errors import ConfigError, HostError
from corral.store.address import UNFINISHED, Address

_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_WHOLE = {*_PACKAGES, "memory"}  # where what is written is seen whole, or not at all
_ANSWER = 20.0  # seconds that s3fs waits for an answer
_TEXT = 300  # characters of what a store says


class Remote:
    at_once, is_near = 16, False

    def __init__(self, address: Address) -> None:
        self._address, self._root = address, address.root.rstrip("/")
        try:
            import fsspec
        except ImportError:
            raise HostError(
                f"{address.scheme}:// needs fsspec; install it: pip install 'corral[store]', or name a folder"
            ) from None
        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        if address.scheme in ("s3", "s3a"):
            once = {"max_attempts": 1}  # s3fs tries again by itself
            options["config_kwargs"] = {"connect_timeout": _ANSWER, "read_timeout": _ANSWER, "retries": once}
        try:
            self._system = fsspec.filesystem(address.scheme, **options)
        except ImportError:
            package = _PACKAGES.get(address.scheme)
            cure = f"pip install {package}" if package else "see the documentation of fsspec for its package"
            raise HostError(f"{address.scheme}:// needs another package; install it: {cure}") from None
        except ValueError:
            raise ConfigError(
                f"{address.scheme}:// is nothing that fsspec knows; name a folder, or a URL like s3://BUCKET/FOLDER"
            ) from None
        except Exception as error:  # whatever a file system of another package raises
            raise self._failed(error) from None

    def read(self, name: str, most: int) -> bytes:
        try:
            return bytes(self._system.cat_file(self._path(name), start=0, end=most + 1))
        except FileNotFoundError:
            raise
        except Exception as error:
            raise self._failed(error) from None

    def write(self, name: str, data: bytes) -> None:
        path = self._path(name)
        try:
            if self._address.scheme in _WHOLE:
                self._system.pipe_file(path, data)
                return
            beside = f"{path}{UNFINISHED}{os.urandom(8).hex()}"
            self._system.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._system.pipe_file(beside, data)
            self._system.mv(beside, path)
        except Exception as error:
            raise self._failed(error) from None

    def has(self, name: str) -> bool:
        try:
            self._system.info(self._path(name))
        except FileNotFoundError:
            return False
        except Exception as error:
            raise self._failed(error) from None
        return True

    def files(self, folder: str) -> dict[str, float]:
        try:
            found = self._system.find(self._path(folder), detail=True)
            root = self._system._strip_protocol(self._path("")).rstrip("/")
            return {path.removeprefix(root).lstrip("/"): _written(about) for path, about in found.items()}
        except FileNotFoundError:
            return {}
        except Exception as error:
            raise self._failed(error) from None

    def remove(self, name: str) -> None:
        try:
            self._system.rm_file(self._path(name))
        except FileNotFoundError:
            pass
        except Exception as error:
            raise self._failed(error) from None

    def settle(self) -> None:
        """What such a store has taken is its own to keep."""

    def _path(self, name: str) -> str:
        return f"{self._address.scheme}://{self._root}/{name}"

    def _failed(self, error: Exception) -> HostError:
        said = " ".join(str(error).split())[:_TEXT] or type(error).__name__
        return HostError(f"the store {self._address.scheme}://{self._root}: {said}; check its name, keys and network")


def _written(about: dict[str, Any]) -> float:
    """By what a file system calls it; now, where it does not tell: such a file is never old."""
    import time

    for key in ("LastModified", "mtime", "created", "last_modified"):
        value = about.get(key)
        if value is not None:
            return float(value.timestamp() if hasattr(value, "timestamp") else value)
    return time.time()
