"""Where a guest may connect to, changed while it runs: corral net, and a sandbox's network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import corral
from corral.errors import ConfigError
from tests.support.named_guest import Guests, skip_without_kernel
from tests.support.path_server import serving


@pytest.fixture(scope="module", autouse=True)
def small() -> None:
    skip_without_kernel()


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with serving() as port:
        yield port


@pytest.fixture
def guests(tmp_path: Path) -> Iterator[Guests]:
    own = Guests(tmp_path)
    yield own
    own.close()


def fetch(port: int, patience: int = 20) -> str:
    return f"timeout {patience} wget -q -O - http://10.0.2.2:{port}/here"


def test_rules_change_while_a_guest_runs_and_are_its_own(guests: Guests, server: int) -> None:
    for name in "web", "other":
        guests.boot(name, "--memory", "256M", "--net")
    reaches = {}
    for words in ([], ["--allow", "none"], ["--allow", f"host:{server}"], ["--forget", f"host:{server}"], ["--anew"]):
        done = guests.run("net", "web", *words)
        assert done.returncode == 0, done.stderr
        said = guests.exec("web", fetch(server, 20 if words[:1] in ([], ["--anew"]) or "host" in words[-1] else 1))
        reaches[" ".join(words[:2]).replace(str(server), "N")] = said.stdout == b"/here"
        assert guests.exec("other", fetch(server)).stdout == b"/here", words
    assert reaches == {
        "": True,
        "--allow none": False,
        "--allow host:N": True,
        "--forget host:N": False,
        "--anew": True,
    }
    guests.run("net", "web", "--anew", "--deny", "host")
    [card] = json.loads(guests.run("net", "web", "--json").stdout)["cards"]
    assert card["rules"] == [{"does": "deny", "to": "host"}]
    assert card["counters"]["filtered"] > 0


def test_a_connection_that_is_open_gets_no_further(guests: Guests, server: int) -> None:
    guests.boot("web", "--memory", "256M", "--net", "--allow", f"host:{server}")
    script = f"""
mkfifo /tmp/in; nc 10.0.2.2 {server} </tmp/in >/tmp/out & exec 3>/tmp/in
printf 'GET /first HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&3
until grep -q /first /tmp/out; do sleep 0.1; done; echo open
until [ -e /tmp/go ]; do sleep 0.1; done
printf 'GET /second HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&3; sleep 1; grep -c /second /tmp/out"""
    with guests.start("exec", "web", "--", script) as shell:
        assert shell.stdout
        assert shell.stdout.readline() == b"open\n"
        assert guests.run("net", "web", "--allow", "none", "--forget", f"host:{server}").returncode == 0
        guests.exec("web", "touch /tmp/go")
        assert shell.communicate()[0] == b"0\n"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((), 2, "needs the name of a guest"),
        (("nosuch",), 2, "there is no guest 'nosuch'"),
        (("web", "--allow", "a:b"), 2, "is not like example.org:443"),
        (("web", "--deny", "none"), 2, "none is a word of --allow alone"),
        (("web", "--forget", "x"), 2, "there is no rule 'x' to forget; corral net web lists them"),
        (("web", "--allow", "no-such-name.invalid"), 3, "no address is known by that name"),
        (("web", *(word for n in range(300) for word in ("--allow", f"10.0.0.{n % 256}:{n + 1}"))), 3, "at most 256"),
        (("plain", "--allow", "all"), 2, "has no network card; start it with --net"),
    ],
)
def test_what_cannot_be_is_one_line_and_changes_nothing(
    two: Guests, words: tuple[str, ...], status: int, said: str
) -> None:
    done = two.run("net", *words)
    assert (done.returncode, done.stdout) == (status, b"")
    [line] = done.stderr.decode().splitlines()
    assert said in line
    [card] = json.loads(two.run("net", "web", "--json").stdout)["cards"]
    assert card["rules"] == [{"does": "allow", "to": "192.0.2.1:9"}]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guests]:
    own = Guests(tmp_path_factory.mktemp("g"))
    own.boot("web", "--memory", "256M", "--net", "--allow", "192.0.2.1:9")
    own.boot("plain", "--memory", "256M")
    yield own
    own.close()


def test_a_sandbox_connects_nowhere_until_it_is_told_where(server: int) -> None:
    with corral.Sandbox(memory="256M", nets="user") as box:
        assert box.network.rules().denies_rest
        assert box.run(fetch(server, 1)).stdout == ""
        assert box.network.allow(f"host:{server}").allowed == (f"host:{server}",)
        assert box.run(fetch(server)).stdout == "/here"
        assert box.network.forget(f"host:{server}").denies_rest
        assert box.run(fetch(server, 1)).stdout == ""


def test_a_sandbox_without_a_network_has_no_card() -> None:
    with corral.Sandbox(memory="256M") as box:
        assert box.run("ls /sys/class/net").stdout == "lo\n"
        assert box.network.cards() == []
        with pytest.raises(ConfigError, match="has no network card"):
            box.network.allow("all")
