"""corral boot --limit-cpu, --limit-memory, --limit-io: a control group for the guest and all that serves it."""

from __future__ import annotations

import os
import stat

from corral.config import parse_size
from corral.errors import ConfigError
from corral.jail.cgroup import ControlGroup, Limits, Unlimited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.options import Arguments
    from corral.jail.clerk import Clerk

LEAST_CPU, MOST_CPU = 0.01, 4096.0  # CPUs
LEAST_MEMORY = 16 << 20  # bytes: with less not even Python runs
IO = ("rbps", "wbps", "riops", "wiops")  # of io.max
OPTIONS = ("limit-cpu", "limit-memory", "limit-io")


def wanted(arguments: Arguments) -> Limited | None:
    """None where no limit is asked for. Raises ConfigError."""
    values = arguments.values
    if not any(name in values for name in OPTIONS):
        return None
    memory = parse_size(values["limit-memory"]) if "limit-memory" in values else 0
    if "limit-memory" in values and memory < LEAST_MEMORY:
        raise ConfigError(f"--limit-memory {values['limit-memory']}: at least {LEAST_MEMORY >> 20}M")
    cpu = parse_cpu(values["limit-cpu"]) if "limit-cpu" in values else 0.0
    return Limited(Limits(cpu, memory, tuple(map(parse_io, arguments.every.get("limit-io", [])))))


class Limited:
    """A context manager: within it this process is in a group of its own, with what it starts. A notice tells where
    there is none to be had; the guest runs without limits then."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._group: ControlGroup | None = None
        self._removed_by_clerk = False

    def enter(self, notices: list[str]) -> Limited:
        try:
            self._group = ControlGroup(self._limits)
        except Unlimited as why:
            notices.append(f"no limits, for {why}")
        return self

    def hand_over(self, clerk: Clerk) -> None:
        """From within the jail the clerk removes the group, in which it is not itself."""
        if self._group:
            self._group.keep_out(clerk.pid)
            clerk.removes(self._group.path)
            self._removed_by_clerk = True

    def __enter__(self) -> Limited:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._group and not self._removed_by_clerk:
            self._group.leave()


def parse_cpu(text: str) -> float:
    """Raises ConfigError."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not LEAST_CPU <= value <= MOST_CPU:
        raise ConfigError(f"--limit-cpu {text!r} is no number of CPUs; write it like 1.5")
    return value


def parse_io(text: str) -> str:
    """`PATH,rbps=BYTES,wbps=BYTES,riops=N,wiops=N`, of the device that PATH is or lies on. Raises ConfigError."""
    path, *words = text.split(",")
    values = []
    for word in words:
        name, equals, value = word.partition("=")
        if name not in IO or not equals:
            raise ConfigError(f"--limit-io {text!r}: {word!r} is none of {', '.join(f'{name}=N' for name in IO)}")
        number = parse_size(value) if name.endswith("bps") and not value.isdigit() else _count(value)
        values.append(f"{name}={number}")
    if not values:
        raise ConfigError(f"--limit-io {text!r} has no limit; write it like {path or '/dev/sda'},wbps=10M,riops=500")
    return f"{_device(path)} {' '.join(values)}"


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:20]) < 1 << 63):
        raise ConfigError(f"--limit-io: {text!r} is no number of requests or bytes a second")
    return int(text)


def _device(path: str) -> str:
    """major:minor of the whole disk."""
    try:
        about = os.stat(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--limit-io: {path!r}: {getattr(error, 'strerror', error)}") from None
    number = about.st_rdev if stat.S_ISBLK(about.st_mode) else about.st_dev
    name = f"{os.major(number)}:{os.minor(number)}"
    folder = os.path.realpath(f"/sys/dev/block/{name}")
    if not os.path.isdir(folder):
        raise ConfigError(f"--limit-io: {path!r} is on no block device of this host")
    if os.path.exists(os.path.join(folder, "partition")):
        with open(os.path.join(os.path.dirname(folder), "dev")) as file:
            return file.read().strip()
    return name
