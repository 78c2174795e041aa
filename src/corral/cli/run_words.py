"""The words of `corral run` as values: docker run's, over what the image says."""

from __future__ import annotations

import os

from corral.config import parse_size
from corral.errors import BootError, ConfigError
from corral.launch.container import DISK_SIZE, Container, Volume
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from corral.cli.options import Arguments

    class Config(Protocol):
        """Of an image."""

        @property
        def entrypoint(self) -> tuple[str, ...]: ...
        @property
        def cmd(self) -> tuple[str, ...]: ...
        @property
        def env(self) -> tuple[str, ...]: ...
        @property
        def user(self) -> str: ...
        @property
        def working_dir(self) -> str: ...
        @property
        def stop_signal(self) -> str: ...

    class Image(Protocol):
        """What there is to run."""

        @property
        def digest(self) -> str: ...
        @property
        def root(self) -> str | os.PathLike[str]: ...
        @property
        def config(self) -> Config: ...


MOST_ENV_FILE = 1 << 20  # bytes
LONGEST_HOSTNAME = 64
EROFS = ".erofs"
REAL_TIME, MOST_REAL_TIME = 34, 30  # SIGRTMIN as C libraries have it, and how many follow


@record(frozen=True)
class PlainConfig:
    """Of a root file system that comes without a configuration."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ("/bin/sh",)
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    stop_signal: str = ""


@record(frozen=True)
class ErofsFile:
    """An EROFS image of the user's."""

    root: str
    digest: str
    config: Config = PlainConfig()


def image(name: str, pull: str, progress: Callable[[str], None]) -> Image:
    """Fetched and made when it is not in the cache. Raises ConfigError, BootError, HostError."""
    if pull not in ("missing", "always", "never"):
        raise ConfigError(f"--pull {pull!r} is none of missing, always, never")
    if name.endswith(EROFS) and "/" in name:
        if not os.path.isfile(name):
            raise BootError(f"there is no file {name!r}; check the path")
        path = os.path.realpath(name)
        return ErofsFile(path, path)
    from corral.oci import prepare

    return prepare(name, pull=pull, progress=progress)  # type: ignore[arg-type]  # mypy narrows no text to a Literal


def container(arguments: Arguments, config: Config) -> Container:
    """Raises ConfigError."""
    values, every, rest = arguments.values, arguments.every, tuple(arguments.rest or ())
    entrypoint, command = config.entrypoint, rest or config.cmd
    if "entrypoint" in values:  # the image's command is that of its own entrypoint
        entrypoint, command = (values["entrypoint"],) if values["entrypoint"] else (), rest
    return Container(
        words=(*entrypoint, *command),
        environment=_environment(config.env, every.get("env-file", []), every.get("env", [])),
        user=values.get("user", config.user),
        folder=_absolute(values.get("workdir") or f"/{config.working_dir}", "--workdir"),
        hostname=_hostname(values.get("hostname") or values.get("name") or "corral"),
        volumes=(*map(_volume, every.get("volume", [])), *map(_memory, every.get("tmpfs", []))),
        read_only="read-only" in values,
        stop_signal=_signal(values.get("stop-signal") or config.stop_signal or "TERM"),
        keep=_kept(values["keep"]) if "keep" in values else "",
        disk_size=parse_size(values["disk-size"]) if "disk-size" in values else DISK_SIZE,
    )


def _environment(of_image: tuple[str, ...], files: list[str], given: list[str]) -> tuple[str, ...]:
    """The last of a name counts. One without a value is as it is here, or not there."""
    found: dict[str, str] = {}
    lines = [line for path in files for line in _lines(path)]
    for text in (*of_image, *lines, *given):
        name, equals, value = text.partition("=")
        if not name:
            raise ConfigError(f"--env {text!r} is not NAME=VALUE or NAME")
        if equals:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    return tuple(f"{name}={value}" for name, value in found.items())


def _lines(path: str) -> list[str]:
    """Of an --env-file: without comments and empty lines."""
    from corral import os_errors

    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read(MOST_ENV_FILE + 1)
    except OSError as error:
        raise ConfigError(f"--env-file {path!r}: {os_errors.text(error, 'check the path')}") from None
    if len(text) > MOST_ENV_FILE:
        raise ConfigError(f"--env-file {path!r} has more than {MOST_ENV_FILE} bytes")
    lines = [line.lstrip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _volume(text: str) -> Volume:
    """From "FOLDER:PATH[:ro|rw]"."""
    source, colon, rest = text.partition(":")
    path, _, mode = rest.partition(":")
    if not colon or not source or mode not in ("", "ro", "rw"):
        raise ConfigError(f"--volume {text!r} is not like ./folder:/path or ./folder:/path:ro")
    if "/" not in source and source not in (".", ".."):
        raise ConfigError(f"--volume {text}: there are no volumes with names; write a folder, like ./{source}:{path}")
    if not os.path.isdir(source):
        why = "is no folder, and nothing else can be shared" if os.path.exists(source) else "is not there"
        raise ConfigError(f"--volume {text}: {source!r} {why}; name a folder of this host")
    return Volume(_absolute(path, "--volume"), os.path.realpath(source), mode != "ro")


def _memory(text: str) -> Volume:
    """From "PATH[:OPTIONS]"."""
    path, _, options = text.partition(":")
    return Volume(_absolute(path, "--tmpfs"), options=options or "mode=1777")


def _absolute(path: str, option: str) -> str:
    if not path.startswith("/"):
        raise ConfigError(f"{option}: {path!r} is no path from / in the guest")
    return os.path.normpath("/" + path.lstrip("/"))


def _hostname(name: str) -> str:
    letters = name.replace("-", "").replace(".", "").replace("_", "")
    if not (letters.isascii() and letters.isalnum()) or len(name) > LONGEST_HOSTNAME:
        raise ConfigError(f"--hostname {name!r} is none: it has at most {LONGEST_HOSTNAME} of a-z, 0-9, - and .")
    return name


def _signal(text: str) -> int:
    if text in ("TERM", "SIGTERM"):
        return 15
    name, plus, number = text.removeprefix("SIG").partition("+")
    if name == "RTMIN" and plus and number.isascii() and number.isdigit() and int(number[:3]) <= MOST_REAL_TIME:
        return REAL_TIME + int(number)  # systemd's, in images that have one
    from corral.agent.command import signal_number

    return signal_number(text)


def _kept(name: str) -> str:
    from corral.running.place import check_name

    return check_name(name)
