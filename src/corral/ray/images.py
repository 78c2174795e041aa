"""Container images for Ray's sandboxes, as `corral run` has them: fetched once, EROFS in the cache."""

from __future__ import annotations

import os
import subprocess
import sys

from ray.experimental.sandbox import BaseImageManager, SandboxCreationError, SandboxError, SandboxTimeoutError

from corral import oci
from corral.errors import CorralError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_EROFS = ".erofs"


class CorralImageManager(BaseImageManager):
    """`image` is a name as for docker run, oci:DIR:TAG, docker-archive:FILE, a folder with a root file system, or the
    path of an EROFS image. The cache looks after itself (docs/images.md), so nothing is pinned or released."""

    def pull_image(self, image: str, timeout_seconds: float = 120.0, instance_id: str | None = None) -> str:
        """The folder of the image in the cache. Raises SandboxCreationError, SandboxTimeoutError."""
        if _is_erofs(image):
            return os.path.dirname(os.path.realpath(image))
        try:
            return str(oci.prepare(image, pull="never").root.parent)
        except CorralError:
            pass  # it is not here yet, or something is wrong: the command tells
        command = [sys.executable, "-P", "-m", "corral", "pull", image]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            raise SandboxTimeoutError(f"image {image!r} was not fetched within {timeout_seconds:g} s") from None
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise SandboxCreationError(said.removeprefix("corral: "))
        return self.get_image_dir(image)

    def get_image_dir(self, image: str) -> str:
        return str(self._image(image).root.parent)

    def get_image_config(self, image: str) -> dict[str, Any]:
        """As an OCI image's "config" has it: Env, WorkingDir, User, Entrypoint, Cmd."""
        if _is_erofs(image):
            return {}
        config = self._image(image).config
        return {
            "Env": list(config.env),
            "WorkingDir": config.working_dir,
            "User": config.user,
            "Entrypoint": list(config.entrypoint),
            "Cmd": list(config.cmd),
        }

    def get_workdir(self, image: str) -> str | None:
        return self.get_image_config(image).get("WorkingDir") or None

    def get_envs(self, image: str) -> list[str]:
        return self.get_image_config(image).get("Env") or []

    def create_oci_spec(self, image: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Raises SandboxError: a guest is no OCI bundle."""
        raise SandboxError("a guest of Corral's has a kernel of its own and no OCI runtime; there is no spec")

    def prepare_oci_bundle(self, *arguments: Any, **options: Any) -> str:
        """Raises SandboxError: a guest is no OCI bundle."""
        raise SandboxError("a guest of Corral's has a kernel of its own and no OCI runtime; there is no bundle")

    def _image(self, image: str) -> oci.Image:
        try:
            return oci.prepare(image, pull="never")
        except CorralError as error:
            raise SandboxCreationError(str(error)) from None


def _is_erofs(image: str) -> bool:
    return image.endswith(_EROFS) and "/" in image
