"""What a person meets who writes `import corral` in an interpreter or an editor."""

from __future__ import annotations

import ast
import inspect
import pydoc
import re
from pathlib import Path

import pytest

import corral
from corral.cli.boot import COMMAND
from corral.cli.boot_request import from_arguments
from corral.cli.options import parse
from corral.config import DiskConfig, MachineConfig, ShareConfig
from corral.debug.breakpoints import Stop, Why
from corral.errors import ConfigError, CorralError
from corral.launch.request import BootRequest
from corral.startup.record import record

STUB = Path(corral.__file__).with_suffix(".pyi")


def test_completion_offers_every_public_name() -> None:
    assert set(corral.__all__) <= set(dir(corral))
    assert not any(name.startswith("_") and not name.startswith("__") for name in dir(corral))


def test_every_public_name_is_there_and_called_so() -> None:
    for name in corral.__all__:
        found = getattr(corral, name)
        assert found.__doc__, f"corral.{name} has no documentation"


def test_type_checkers_and_editors_find_the_same_names() -> None:
    tree = ast.parse(STUB.read_text())
    imported = {
        (alias.asname or alias.name): f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(imported) == set(corral.__all__)
    for name, place in imported.items():
        module, _, attribute = place.rpartition(".")
        assert getattr(corral, name) is getattr(__import__(module, fromlist=[attribute]), attribute)


def test_all_errors_are_exported() -> None:
    from corral import errors

    own = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, CorralError)}
    assert own <= set(corral.__all__)


@pytest.mark.parametrize("kind", [MachineConfig, DiskConfig, ShareConfig])
def test_help_shows_what_a_configuration_takes(kind: type) -> None:
    signature = inspect.signature(kind)
    assert list(signature.parameters) == list(kind.__annotations__)
    assert list(inspect.signature(kind.__init__).parameters) == ["self", *kind.__annotations__]
    text = pydoc.render_doc(kind, renderer=pydoc.plaintext)
    first = f"{kind.__name__}({str(signature)[1:20]}"  # from Python 3.13 on a long one has a line for each parameter
    assert first.replace(" ", "") in re.sub(r"[\s|]", "", text)
    assert "*args" not in text


def test_defaults_and_types_are_in_a_signature() -> None:
    text = str(inspect.signature(MachineConfig))
    assert "kernel: str, initrd: str | None = None" in text
    assert "disks: tuple[DiskConfig, ...] = ()" in text


def test_a_field_that_there_is_not_names_the_one_that_was_meant() -> None:
    with pytest.raises(TypeError, match="no field 'memroy'; did you mean memory"):
        MachineConfig("vmlinux", memroy=1)  # type: ignore[call-arg]


def test_addresses_are_hexadecimal() -> None:
    assert repr(Stop(Why.STEP, 1, 0xFFFFFFFF81000000)).startswith("Stop(why=<Why.STEP: 'step'>, vcpu=1, rip=0xffffff")

    @record(frozen=True)
    class Place:
        HEX = ("address",)

        address: int | None
        size: int

    assert (repr(Place(16, 16)), repr(Place(None, 1))) == (
        "Place(address=0x10, size=16)",
        "Place(address=None, size=1)",
    )


@pytest.mark.parametrize("value", ["a.img", ["a.img"], ("a.img",), (ShareConfig("/"),)])
def test_disks_that_are_no_disks_are_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="disks is a tuple of DiskConfig"):
        MachineConfig("vmlinux", disks=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [[DiskConfig("a.img")], DiskConfig("a.img")])
def test_a_list_of_disks_will_do_and_one_alone(value: object) -> None:
    config = MachineConfig("vmlinux", disks=value)  # type: ignore[arg-type]
    assert config.disks == (DiskConfig("a.img"),)
    assert hash(config)


def requested(monkeypatch: pytest.MonkeyPatch, *command: str, **options: object) -> BootRequest:
    """What linux() asks for."""
    seen: list[BootRequest] = []

    def configure(request: BootRequest) -> MachineConfig:
        seen.append(request)
        raise ConfigError("enough")

    monkeypatch.setattr("corral.launch.configure.configure", configure)
    with pytest.raises(ConfigError, match="enough"):
        corral.linux(*command, **options)  # type: ignore[arg-type]
    return seen[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, []),
        ({"disks": "a.img"}, ["--disk=a.img"]),
        ({"disks": ["a.img", "b.img,ro"], "root": 1}, ["--disk=a.img", "--disk=b.img,ro", "--root=1"]),
        ({"shares": "/,rw"}, ["--share=/,rw"]),
        ({"shares": ("/", "/,tag=b")}, ["--share=/", "--share=/,tag=b"]),
        ({"numa": "spread", "pin": "0-3"}, ["--numa=spread", "--pin=0-3"]),
        ({"cpus": "sockets=2,cores=2"}, ["--cpus=sockets=2,cores=2"]),
        ({"memory": 256}, ["--memory=256"]),
        ({"memory": "2G", "cpus": 3, "acpi": "off"}, ["--memory=2G", "--cpus=3", "--acpi=off"]),
        ({"kernel": "vmlinux", "initrd": "none", "append": "a=b"}, ["vmlinux", "--initrd=none", "--append=a=b"]),
    ],
)
def test_linux_asks_for_what_the_command_asks_for(
    options: dict[str, object], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in ((), ("ls", "/")):
        arguments = parse(COMMAND, [*words, "--", *command] if command else words)
        assert arguments is not None
        assert requested(monkeypatch, *command, **options) == from_arguments(arguments, "terminal")
        assert requested(monkeypatch, *command, pipes=True, **options) == from_arguments(arguments, "pipes")
