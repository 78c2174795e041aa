"""`corral boot debian` on this machine's KVM: systemd on the distribution's own kernel, natively or on hardware; and
Corral's small kernel with the same files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from corral.errors import HostError
from corral.guests import distribution
from tests.support import apt_mirror, stock_kernels

SESSION = [sys.executable, "-m", "tests.support.debian_session"]


def session(*words: str) -> None:
    """A person logs in, works, and ends it; the file system is clean then."""
    done = subprocess.run([*SESSION, *words], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "clean" in done.stdout


def test_a_command_there_has_its_status_and_streams() -> None:
    """By systemd's service, or by the first process under the small kernel."""
    command = [sys.executable, "-m", "corral", "boot", "debian", "--timeout", "850", "--"]
    image = distribution.get("debian", generic=False).image
    before = os.stat(image)
    done = subprocess.run(
        [*command, r". /etc/os-release; echo $ID; id -u; cat; printf 'err\n' >&2; tty; exit 9"],
        input=b"a\0\r\n\4" * 50_000,
        capture_output=True,
        timeout=900,
    )
    assert (done.returncode, done.stdout) == (9, b"debian\n0\n" + b"a\0\r\n\4" * 50_000 + b"not a tty\n"), done.stderr
    assert done.stderr.splitlines()[-1] == b"err"
    after = os.stat(image)
    assert (after.st_mtime_ns, after.st_blocks) == (before.st_mtime_ns, before.st_blocks)


@pytest.mark.long
@pytest.mark.parametrize("name", ["debian:bookworm", "debian:trixie"])
def test_systemd_says_that_it_runs(name: str) -> None:
    """No unit has failed there, and none is still starting: the first thing to ask of a system."""
    stock_kernels.skip_where_interpreted()
    try:
        distribution.get(name, generic=False)
    except HostError as error:
        pytest.skip(f"{name} cannot be made here: {error}")
    command = [sys.executable, "-m", "corral", "boot", name, "--timeout", "280"]
    command += ["--", "systemctl", "is-system-running", "--wait"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
    assert (done.returncode, done.stdout) == (0, "running\n"), done.stderr


def test_the_small_kernel_to_a_login_and_a_clean_end() -> None:
    """When it is asked from outside, without ACPI too: there the line hangs up."""
    session("--kernel", "small", "sigterm")


@pytest.mark.parametrize(
    ("name", "kernel", "cpus", "end"),
    [
        ("debian:bookworm", "cloud", "1", "sigterm"),
        pytest.param("debian:bookworm", "cloud", "2", "poweroff", marks=pytest.mark.long),
        pytest.param("debian:trixie", "cloud", "1", "ctrl-a-x", marks=pytest.mark.long),
        pytest.param("debian:trixie", "generic", "2", "sigterm", marks=pytest.mark.long),
    ],
)
def test_its_own_kernel_to_a_login_and_a_clean_end(name: str, kernel: str, cpus: str, end: str) -> None:
    """With its own modules: those of its disk are in the initramfs."""
    stock_kernels.skip_where_interpreted()
    try:
        distribution.get(name, kernel == "generic")
    except HostError as error:
        pytest.skip(f"{name} cannot be made here: {error}")
    session("--name", name, "--kernel", kernel, "--cpus", cpus, end)


def test_apt_in_it_fetches_and_installs_from_a_mirror_on_this_host(tmp_path: Path) -> None:
    stock_kernels.skip_where_interpreted()
    with apt_mirror.served(tmp_path) as port:
        mirror = f"deb [trusted=yes] http://10.0.2.2:{port}/ ./"
        script = (
            f"set -e; echo '{mirror}' >/etc/apt/sources.list; rm -rf /etc/apt/sources.list.d; apt-get -q update >&2; "
            "apt-get -q -y install corral-hello >&2; corral-hello; cat /etc/resolv.conf"
        )
        command = [sys.executable, "-m", "corral", "boot", "debian", "--net", "--timeout", "850", "--", script]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900)
    assert (done.returncode, done.stdout) == (0, "hello from a package\nnameserver 10.0.2.3\n"), done.stderr
