"""corral ssh: by keys that are made and given to the guest, over the agent's connection."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import stock_kernels
from tests.support.named_guest import Guests, skip_without_kernel


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guests]:
    """With `deb`, a Debian without a network, and `plain`, Corral's small Linux."""
    skip_without_kernel()
    stock_kernels.skip_where_interpreted()
    if not shutil.which("ssh"):
        pytest.skip("no ssh on this host: apt-get install openssh-client")
    own = Guests(tmp_path_factory.mktemp("g"))
    for name, words in ("deb", ["debian"]), ("plain", []):
        done = own.run("boot", *words, "--name", name, "--detach", timeout=900)
        assert done.returncode == 0, done.stderr
    yield own
    own.close()


def ssh(guests: Guests, *words: str) -> subprocess.CompletedProcess[bytes]:
    return guests.run("ssh", *words)


def test_a_command_by_ssh_has_its_status_and_streams(guests: Guests) -> None:
    done = guests.run("ssh", "deb", "--", "cat; echo err >&2; id -un; exit 7", input=b"a\0\r\n\4" * 100_000)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"a\0\r\n\4" * 100_000 + b"root\n", b"err\n")


def test_another_user_and_none(guests: Guests) -> None:
    assert guests.exec("deb", "useradd -m joe").returncode == 0
    assert ssh(guests, "deb", "-u", "joe", "--", "id -un").stdout == b"joe\n"
    refused = ssh(guests, "deb", "-u", "nosuch", "--", "true")
    assert refused.returncode == 255
    assert b"Permission denied" in refused.stderr


def test_other_programs_take_the_configuration(guests: Guests, tmp_path: Path) -> None:
    config, data = tmp_path / "config", os.urandom(1 << 20)
    config.write_bytes(ssh(guests, "--config", "deb").stdout)
    (tmp_path / "data").write_bytes(data)
    command = ["scp", "-q", "-F", str(config), str(tmp_path / "data"), "deb:/tmp/data"]
    subprocess.run(command, check=True, env=guests.environment, timeout=100)
    assert guests.exec("deb", "cat", "/tmp/data").stdout == data


def test_the_guests_disk_stays_as_it_is(guests: Guests) -> None:
    assert ssh(guests, "deb", "--", "ls /etc/ssh/*key* /root/.ssh").returncode == 2


def test_the_key_of_a_guest_is_asked_for(guests: Guests) -> None:
    """What answers in its place is not talked to."""
    assert ssh(guests, "deb", "--", "true").returncode == 0
    known = guests.folder / "corral" / "deb" / "ssh-known"
    right = known.read_text()
    known.write_text(right[:-12] + ("A" if right[-12] != "A" else "B") + right[-11:])
    done = ssh(guests, "deb", "--", "true")
    known.write_text(right)
    assert done.returncode == 255


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("plain",), "has no sshd; corral exec -it plain -- sh"),
        (("nosuch",), "there is no guest 'nosuch'"),
        ((), "needs the name of a guest"),
        (("deb", "-u", "-x"), "is no name of a user"),
        (("deb", "-u", "a b"), "is no name of a user"),
    ],
)
def test_what_cannot_be_is_one_line(guests: Guests, words: tuple[str, ...], said: str) -> None:
    done = ssh(guests, *words)
    assert done.returncode == 2
    [line] = done.stderr.decode().splitlines()
    assert said in line
