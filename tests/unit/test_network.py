"""--net and --publish: from words to values, and what cannot be."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from corral.backends import passt
from corral.backends.frame_socket import FrameSocket
from corral.backends.passt import Passt
from corral.backends.tap import Tap
from corral.cli.boot import COMMAND
from corral.cli.boot_request import from_arguments
from corral.cli.options import parse as parse_options
from corral.errors import ConfigError, HostError
from corral.network import MAC, NetConfig, Published, mac_bytes, parse, parse_all


def nets(*words: str) -> tuple[NetConfig, ...]:
    arguments = parse_options(COMMAND, [*words])
    assert arguments is not None
    return from_arguments(arguments).nets


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ()),
        (["--net", "none"], ()),
        (["--net"], (NetConfig(),)),
        (["--net", "user"], (NetConfig(),)),
        (["--net="], (NetConfig(),)),
        (["--net", "--", "true"], (NetConfig(),)),
        (["--net", "--memory", "1G"], (NetConfig(),)),
        (["--net", "mtu=1500"], (NetConfig(mtu=1500),)),
        (["--net", "user,mac=02:00:00:00:00:AA"], (NetConfig(mac="02:00:00:00:00:aa"),)),
        (["--publish", "8080:80"], (NetConfig(published=(Published(8080, 80),)),)),
        (
            ["--net", "--publish", "0.0.0.0:53:5353/udp", "--publish", "1:2/tcp"],
            (NetConfig(published=(Published(53, 5353, "0.0.0.0", True), Published(1, 2))),),
        ),
        (
            ["--net", "socket=/tmp/a,,b,mac=02:00:00:00:00:01,ip=10.1.1.1/24,listen"],
            (NetConfig("socket", "/tmp/a,b", True, "02:00:00:00:00:01", address="10.1.1.1/24"),),
        ),
        (["--net", "tap=tap7,mac=02:00:00:00:00:01"], (NetConfig("tap", "tap7", mac="02:00:00:00:00:01"),)),
    ],
)
def test_words(words: list[str], expected: tuple[NetConfig, ...]) -> None:
    assert nets(*words) == expected


def test_a_kernel_after_net_is_a_kernel() -> None:
    arguments = parse_options(COMMAND, ["--net", "debian", "--", "true"])
    assert arguments is not None
    assert arguments.operands == ["debian"]
    assert arguments.every["net"] == [""]


def test_cards_that_may_meet_have_addresses_of_their_own() -> None:
    found = {NetConfig("socket", "/tmp/x").mac for _ in range(20)}
    assert len(found) == 20
    assert all(mac_bytes(mac)[0] & 3 == 2 for mac in found)
    assert NetConfig().mac == NetConfig().mac == MAC


@pytest.mark.parametrize(
    "text",
    [
        "usr",
        "tap",
        "tap=",
        "socket",
        "socket=",
        "user=x",
        "none,mtu=1500",
        "user,mtu=67",
        "user,mtu=65521",
        "user,mtu=0",
        "user,mtu=x",
        "user,mac=1:2:3:4:5:6",
        "user,mac=01:00:00:00:00:01",
        "user,mac=00:00:00:00:00:00",
        "user,mac=02:00:00:00:00",
        "user,mac=02:00:00:00:00:0g",
        "user,ip=10.0.0.1/24",
        "user,listen",
        "user,mtu",
        "tap=sixteen-bytes-ok",
        "socket=" + "x" * 108,
        "socket=x,ip=10.0.0.1",
        "socket=x,ip=10.0.0.256/8",
        "socket=x,ip=10.0.0.1/33",
        "socket=x,ip=10.0.0.1/0",
        "socket=x,ip=::1/64",
    ],
)
def test_cards_that_cannot_be(text: str) -> None:
    with pytest.raises(ConfigError, match="--net"):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "80", "80:", ":80", "0:80", "80:0", "65536:80", "80:65536", "x:80", "80:80:80", "::1:80:80", "1.2.3:1:1"),
        *("1.2.3.256:1:1", "80:80/sctp", "80:80/", "+1:1", "1.2.3.4:80", "٣:80"),
    ],
)
def test_ports_that_cannot_be(text: str) -> None:
    with pytest.raises(ConfigError, match="--publish"):
        parse_all([], [text], [], [])


def test_what_does_not_go_together() -> None:
    for nets_, published, dump in (
        (["none"], ["1:1"], ""),
        (["tap=x"], ["1:1"], ""),
        ([], ["1:1", "1:2"], ""),
        (["user", "user"], [], "file"),
        (["none"], [], "file"),
        ([], [f"{port}:1" for port in range(1, 66)], ""),
    ):
        with pytest.raises(ConfigError):
            parse_all(nets_, published, [], [], dump)


# --- other ends ---


def test_a_tap_that_is_none_is_told_of_in_one_line() -> None:
    for name, said in (
        ("nosuchtap0", "there is no such device"),
        ("lo", "it is no tap device"),
        ("../lo", "no such device"),
    ):
        with pytest.raises(HostError, match=said):
            Tap(NetConfig("tap", name))


def test_a_socket_without_a_listener(tmp_path: Path) -> None:
    path = str(tmp_path / "line")
    with pytest.raises(HostError, match="start the other end first"):
        FrameSocket(NetConfig("socket", path))
    (tmp_path / "line").write_text("a file")
    with pytest.raises(HostError, match="start the other end first"):
        FrameSocket(NetConfig("socket", path))
    with pytest.raises(HostError, match="choose another path"):
        FrameSocket(NetConfig("socket", path, listens=True))
    assert (tmp_path / "line").read_text() == "a file"


def test_two_ends_find_each_other_and_leave_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "line")
    with socket.socket(socket.AF_UNIX) as left:  # of one that was killed
        left.bind(path)
    found: list[FrameSocket] = []
    waiter = threading.Thread(target=lambda: found.append(FrameSocket(NetConfig("socket", path, listens=True))))
    waiter.start()
    other = None
    while other is None:
        try:
            other = FrameSocket(NetConfig("socket", path))
        except HostError:
            continue
    waiter.join(20)
    os.write(other.fd, b"hello")
    assert os.read(found[0].fd, 9) == b"hello"
    assert not os.path.exists(path)
    other.close()
    found[0].close()


def test_passt_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passt, "PROGRAM", "no-such-program")
    with pytest.raises(HostError, match="apt-get install passt"):
        Passt(NetConfig())


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port} cannot be taken: Address already in use"):
            passt._require_free(Published(port, 80))
