"""QMP: what a client is answered, and what a hostile one can do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.introspect.subject import NAMES, Subject
from corral.memory import GuestMemory
from corral.running import control, qmp, seen
from corral.running.place import RunningGuest
from corral.running.qmp import QmpSession


class Talk:
    def __init__(self, folder: Path) -> None:
        self.guest = RunningGuest("web", str(folder), True, None, {"pid": 7})
        self.done: list[str] = []
        self.session = QmpSession(self.guest, lambda: self.done.append("power"), lambda: self.done.append("quit"))

    def say(self, data: bytes, files: tuple[int, ...] = ()) -> list[dict[str, Any]]:
        self.session.take(data, list(files))
        said = b"".join(iter(self.session.answer, b""))
        return [json.loads(line) for line in said.splitlines()]

    def ask(self, name: str, files: tuple[int, ...] = (), **arguments: object) -> Any:
        (answer, *_) = self.say(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\r\n", files)
        return answer.get("return", answer.get("error"))

    def monitor(self, line: str) -> Any:
        return self.ask("human-monitor-command", **{"command-line": line})


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Talk]:
    """A session at its beginning, with a guest that is made by hand."""
    ram = GuestMemory(1 << 20)
    ram.write(0x1000, bytes(range(256)))
    now = Subject(ram, (dict.fromkeys(NAMES, 0) | {"rip": 0xFFF0, "cs": 0x10},), "kernel")
    state = {"pause": "paused", "resume": "running", "now": "running"}

    def ask(path: str, word: str, patience: float = 5.0, fd: int | None = None) -> str:
        state["now"] = state.get(word, state["now"])
        return state["now"] if word == "state" else ""

    monkeypatch.setattr(control, "ask", ask)
    monkeypatch.setattr(seen, "of", lambda guest: now)
    talk = Talk(tmp_path)
    yield talk
    talk.session.close()
    ram.close()


@pytest.fixture
def talk(fresh: Talk) -> Talk:
    assert fresh.say(b'{"execute": "qmp_capabilities"}\r\n') == [{"return": {}}]
    return fresh


def test_a_client_is_greeted_and_has_to_negotiate(fresh: Talk) -> None:
    assert "QMP" in json.loads(fresh.session.greeting())
    assert fresh.ask("query-status")["class"] == "CommandNotFound"
    assert fresh.ask("qmp_capabilities") == {}
    assert fresh.ask("query-status") == {"status": "running", "running": True, "singlestep": False}
    assert fresh.ask("qmp_capabilities")["class"] == "CommandNotFound"


def test_stop_and_cont_are_told_as_events(talk: Talk) -> None:
    answer, event = talk.say(b'{"execute": "stop"}\n')
    assert (answer, event["event"]) == ({"return": {}}, "STOP")
    assert talk.ask("query-status")["status"] == "paused"
    _, event = talk.say(b'{"execute": "cont"}\n')
    assert event["event"] == "RESUME"
    assert talk.ask("query-status")["running"] is True


def test_an_id_comes_back(talk: Talk) -> None:
    assert talk.say(b'{"execute": "query-name", "id": [1, "x"]}\n') == [{"return": {"name": "web"}, "id": [1, "x"]}]


def test_a_command_comes_in_pieces_and_without_a_newline(talk: Talk) -> None:
    assert talk.say(b'{"execute": "query-') == []
    assert talk.say(b'target"}') == [{"return": {"arch": "x86_64"}}]


def test_powerdown_and_quit(talk: Talk) -> None:
    assert talk.ask("system_powerdown") == {}
    assert not talk.session.over
    assert talk.ask("quit") == {}
    assert talk.done == ["power", "quit"]
    assert talk.session.over


@pytest.mark.parametrize(
    "line",
    [b"{", b"[]", b"7", b'{"execute": 7}', b'{"execute": "stop", "arguments": []}', b"\xff\xfe", b"[" * 30000, b"{}"],
)
def test_what_is_no_command_is_told_and_the_next_is_answered(talk: Talk, line: bytes) -> None:
    assert [one["error"]["class"] for one in talk.say(line + b"\n")] == ["GenericError"]
    assert talk.ask("query-name") == {"name": "web"}


def test_a_command_without_an_end_is_the_last(talk: Talk) -> None:
    assert talk.say(b"x" * qmp.LONGEST) == []
    assert talk.say(b"x")[0]["error"]["desc"] == f"a command has at most {qmp.LONGEST} bytes"
    assert talk.session.over


def test_memory_is_told_as_qemu_does(talk: Talk) -> None:
    assert talk.monitor("xp /18xb 0x1000").splitlines() == [
        "0000000000001000: " + " ".join(f"0x{one:02x}" for one in range(16)),
        "0000000000001010: 0x10 0x11",
    ]
    assert talk.monitor("xp/2xg 0x1000") == "0000000000001000: 0x0706050403020100 0x0f0e0d0c0b0a0908\r\n"
    assert talk.monitor("x /1xw 4096") == "0000000000001000: 0x03020100\r\n"  # paging is off
    assert talk.monitor("xp /8xb 0x100000").endswith(" Cannot access memory\r\n")
    assert "at most" in talk.monitor("xp /999999xg 0")
    assert "unknown command" in talk.monitor("drive_add 0 file=/etc/shadow")


def test_registers_and_ram_are_told(talk: Talk) -> None:
    assert "RIP=000000000000fff0" in talk.monitor("info registers")
    assert "  0000000000000000-00000000000fffff (prio 0, ram): ram" in talk.monitor("info mtree -f").splitlines()
    assert "invalid CPU" in talk.ask("human-monitor-command", **{"command-line": "info registers", "cpu-index": 1})


def test_memory_goes_to_a_file(talk: Talk, tmp_path: Path) -> None:
    for name in ("pmemsave", "memsave"):
        path = tmp_path / name
        assert talk.ask(name, val=0x1000, size=256, filename=str(path)) == {}
        assert path.read_bytes() == bytes(range(256))
    beyond = talk.ask("pmemsave", val=0, size=1 << 21, filename=str(tmp_path / "beyond"))
    assert "not all RAM" in beyond["desc"]
    assert not (tmp_path / "beyond").exists()
    assert talk.ask("pmemsave", val=-1, size=1, filename="x")["class"] == "GenericError"


def test_a_descriptor_that_was_handed_over_takes_a_dump(talk: Talk) -> None:
    fd = os.memfd_create("dump")
    assert talk.ask("getfd", (os.dup(fd),), fdname="mine") == {}
    assert talk.ask("dump-guest-memory", paging=False, protocol="fd:mine", begin=0x1000, length=16) == {}
    content = os.pread(fd, 1 << 20, 0)
    assert content[:4] == b"\x7fELF"
    assert content[-16:] == bytes(range(16))
    assert "not found" in talk.ask("closefd", fdname="mine")["desc"]
    assert "SCM_RIGHTS" in talk.ask("getfd", fdname="other")["desc"]
    os.close(fd)


def test_descriptors_do_not_pile_up(talk: Talk) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        talk.say(b"\n", tuple(os.memfd_create("x") for _ in range(8)))
    assert len(os.listdir("/proc/self/fd")) <= before + 8
    talk.session.close()
    assert len(os.listdir("/proc/self/fd")) == before
