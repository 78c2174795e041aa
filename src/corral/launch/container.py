"""A guest that runs a container image: what its init is told as its session, and the request that boots it."""

from __future__ import annotations

from corral.backends.channel import MOST_COMMAND
from corral.config import DiskConfig, ShareConfig
from corral.errors import ConfigError
from corral.guests import container as guests
from corral.launch.events import steps
from corral.launch.request import BootRequest
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.launch.events import Tell
    from corral.network import NetConfig

MEMORY = 1 << 30  # bytes, where nothing is said
DISK_SIZE = 10 << 30  # bytes that a guest may write, where nothing is said
LEAST_DISK = 16 << 20
MOST_VOLUMES = 64  # guests/init/container.h
TAG = "volume"


@record(frozen=True)
class Volume:
    """A folder of the host at `path` in the guest, or memory there where `source` is None; `options` are tmpfs's."""

    path: str
    source: str | None = None
    writable: bool = True
    options: str = "mode=1777"


@record(frozen=True)
class Container:
    """What runs in the guest, as in the configuration of an image (OCI image-spec, config.md). `words`: a program and
    its arguments. `user`: NAME[:GROUP], numbers too, "" for root. `stop_signal`: which asks it to end. `keep`: a name
    by which what is written is kept. `disk_size`: bytes that may be written. Raises ConfigError."""

    words: tuple[str, ...]
    environment: tuple[str, ...] = ()
    user: str = ""
    folder: str = "/"
    hostname: str = "corral"
    volumes: tuple[Volume, ...] = ()
    read_only: bool = False
    stop_signal: int = 15
    keep: str = ""
    disk_size: int = DISK_SIZE

    def __post_init__(self) -> None:
        if not self.words:
            raise ConfigError("the image names no command, so one has to follow its name: corral run IMAGE COMMAND")
        if len(self.volumes) > MOST_VOLUMES:
            raise ConfigError(f"{len(self.volumes)} volumes: a guest has at most {MOST_VOLUMES}")
        if self.disk_size < LEAST_DISK or self.disk_size % 4096:
            raise ConfigError(f"--disk-size: {self.disk_size} bytes are less than 16M, or no multiple of 4K")

    @property
    def shares(self) -> tuple[ShareConfig, ...]:
        """Raises ConfigError for what is no folder."""
        found = [volume for volume in self.volumes if volume.source is not None]
        return tuple(
            ShareConfig(volume.source or "", f"{TAG}{index}", volume.writable) for index, volume in enumerate(found)
        )

    @property
    def text(self) -> str:
        """As guests/init/container.h reads it. Raises ConfigError for what is too long, or has a NUL in it."""
        parts = [("a", word) for word in self.words] + [("e", variable) for variable in self.environment]
        parts += [("u", self.user), ("w", self.folder), ("h", self.hostname), ("s", str(self.stop_signal))]
        tag = 0
        for volume in self.volumes:
            if volume.source is None:
                parts.append(("t", f"{volume.options}:{volume.path}"))
            else:
                parts.append(("v", f"{TAG}{tag}:{'rw' if volume.writable else 'ro'}:{volume.path}"))
                tag += 1
        parts += [("r", "")] * self.read_only + [("k", "")] * bool(self.keep)
        if any("\0" in value for _, value in parts):
            raise ConfigError("a NUL byte is in the command, its environment or a path; leave it out")
        text = "".join(f"{kind}{value}\0" for kind, value in parts)
        if len(text.encode(errors="surrogateescape")) > MOST_COMMAND:
            raise ConfigError(
                f"the command, its environment and volumes have more than {MOST_COMMAND} bytes; make it a script"
            )
        return text


def request(
    root: str,
    digest: str,
    container: Container,
    session: str,
    memory: int | None,
    cpus: int,
    nets: tuple[NetConfig, ...],
    tell: Tell,
) -> BootRequest:
    """For a guest of the image whose EROFS is the file `root`. What it boots with is made first, when it is not in the
    cache. Raises ConfigError, HostError, BootError."""
    progress = steps(tell)
    if container.keep:
        layer = DiskConfig(guests.kept_layer(container.keep, digest, container.disk_size, progress), raw=True)
    else:
        layer = DiskConfig(guests.empty_layer(container.disk_size, progress), snapshot=True, raw=True)
    return BootRequest(
        container=container.text,
        session=session,
        serves_channel=True,
        root="none",
        memory=MEMORY if memory is None else memory,
        cpus=cpus,
        disks=(DiskConfig(root, read_only=True, raw=True), layer),
        shares=container.shares,
        nets=nets,
    )
