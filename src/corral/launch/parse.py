"""What a person writes of a request, as its values: for command lines, and for the Python API's arguments alike."""

from __future__ import annotations

from corral.config import parse_number, parse_size
from corral.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.numa.request import Request, Shape

_ACPI = {"auto": None, "on": True, "off": False}


def parse_acpi(text: str) -> bool | None:
    """None: whatever suits the kernel and this host. Raises ConfigError."""
    if text not in _ACPI:
        raise ConfigError(f"--acpi {text!r} is none of {', '.join(_ACPI)}")
    return _ACPI[text]


def parse_cpus(text: str) -> tuple[int, Shape | None]:
    """From "8" or "sockets=2,cores=2,threads=2". Raises ConfigError."""
    if "=" not in text:
        return parse_number(text, "--cpus"), None
    from corral.numa.request import parse_cpus

    return parse_cpus(text)


def parse_placement(
    shape: Shape | None, numa: str | None, pin: str | None, pages: str | None = None, prealloc: bool = False
) -> Request | None:
    """None where nothing is said. How many CPUs and how much memory it is for is not in it. Raises ConfigError."""
    if shape is None and numa is None and pin is None and pages is None and not prealloc:
        return None
    from corral.numa import request

    fields = request.parse_numa("auto" if numa is None else numa, parse_size)
    fields |= request.parse_pin("auto" if pin is None else pin)
    if pages is not None:
        fields |= request.parse_pages(pages)
    return request.Request(cpus=0, memory=0, shape=shape, prealloc=prealloc, **fields)
