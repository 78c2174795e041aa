"""All that a device needs of the host it has once it is made: a driver's start may come when nothing more is given."""

from __future__ import annotations

import errno
import os
import signal
import socket
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from corral.native import lib
from tests.support import denied, net_driver
from tests.support.p9_client import LERROR, message
from tests.support.virtio_driver import Disk
from tests.support.vsock_driver import RESPONSE, RW, VsockDriver
from tests.unit.virtio import test_p9, test_ports, test_rng, test_vsock

# What opens, makes a thread or a ring, or asks what a descriptor is.
GIVEN_BEFORE = ("openat", "eventfd2", "memfd_create", "fstat", "newfstatat", "fcntl")
GIVEN_BEFORE += ("clone", "clone3", "io_uring_setup", "io_uring_register")
Step = Callable[[], object]


@contextmanager
def disk(engine: int) -> Iterator[tuple[Step, Step, Step]]:
    file = os.memfd_create("image")
    os.truncate(file, 1 << 20)
    one = Disk(file, 1 << 20, engine=engine, queues=2)
    yield one.start, lambda: one.read(0, 4096), one.stop


@contextmanager
def rng() -> Iterator[tuple[Step, Step, Step]]:
    driver = test_rng.Driver()
    yield driver.start, lambda: driver.wait(driver.ask(64)), driver.stop


@contextmanager
def ports() -> Iterator[tuple[Step, Step, Step]]:
    host = test_ports.Host()
    host.driver.stop()

    def work() -> None:
        host.driver.told.clear()
        host.driver.connect()
        host.driver.write(host.driver.of(test_ports.OUT) + 1, b"hello")
        assert host.driver.until(lambda: host.driver.sent(host.driver.of(test_ports.OUT) + 1))
        assert os.read(host.output, 99) == b"hello"

    yield host.driver.start, work, host.driver.stop


@contextmanager
def share() -> Iterator[tuple[Step, Step, Step]]:
    """Its server is no part of it: here is one that refuses all but the greeting of a later session."""
    ours, server = socket.socketpair()
    driver = test_p9.Driver(ours.fileno())

    def start() -> None:
        assert driver.start() == 0

    def work() -> None:
        head = driver.send(message(test_p9.T_OPEN, 1))
        asked = test_p9.received(server)
        if asked[4] == test_p9.T_VERSION:
            server.send(message(test_p9.T_VERSION + 1, 0xFFFF))
            asked = test_p9.received(server)
        server.send(message(LERROR, 1, errno.EIO.to_bytes(4, "little")))
        assert driver.wait(head)[7:] == errno.EIO.to_bytes(4, "little")
        assert asked == message(test_p9.T_OPEN, 1)

    def stop() -> None:
        assert lib.corral_p9_stop(driver.p9) == 0

    yield start, work, stop


@contextmanager
def net() -> Iterator[tuple[Step, Step, Step]]:
    driver = net_driver.Driver()

    def work() -> None:
        driver.send(net_driver.ethernet(60))
        assert driver.arrived() == net_driver.ethernet(60)
        driver.post(100)
        driver.give(net_driver.ethernet(60))
        driver.get(1)

    yield driver.start, work, driver.stop


@contextmanager
def vsock() -> Iterator[tuple[Step, Step, Step]]:
    """Its connector removes the path when this process has ended."""
    driver = VsockDriver(Path(tempfile.gettempdir()) / f"corral-prepared-{os.getpid()}")
    clients = [socket.socket(socket.AF_UNIX) for _ in range(2)]  # of each work one

    def work() -> None:
        one = clients.pop()
        one.connect(str(driver.path))
        one.sendall(b"CONNECT %d\n" % test_vsock.PORT)
        port = driver.hears(test_vsock.REQUEST).host_port
        driver.send(RESPONSE, test_vsock.PORT, port)
        driver.send(RW, test_vsock.PORT, port, b"hello")
        said = b""
        while not said.endswith(b"hello"):
            said += one.recv(64)
        assert said == b"OK %d\nhello" % port

    yield driver.start, work, driver.stop


DEVICES = {
    "disk by threads": lambda: disk(lib.CORRAL_BLK_THREADS),
    "disk by io_uring": lambda: disk(lib.CORRAL_BLK_URING),
    "rng": rng,
    "ports": ports,
    "share": share,
    "net": net,
    "vsock": vsock,
}


def twice_with_nothing_given(name: str) -> None:
    with DEVICES[name]() as (start, work, stop):
        for call in GIVEN_BEFORE:
            denied.deny(call, None)
        for _ in range(2):
            start()
            work()
            stop()


@pytest.mark.parametrize("name", DEVICES)
def test_a_start_and_a_stop_need_nothing_more_of_the_host(name: str) -> None:
    if name == "disk by io_uring" and lib.corral_blk_uring_probe() < 0:
        pytest.skip("no io_uring here")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            twice_with_nothing_given(name)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    assert not os.WIFSIGNALED(ended), signal.Signals(os.WTERMSIG(ended)).name
    assert os.WEXITSTATUS(ended) == 0


def threads() -> set[str]:
    return set(os.listdir("/proc/self/task"))


@pytest.mark.parametrize("engine", [lib.CORRAL_BLK_THREADS, lib.CORRAL_BLK_URING], ids=["threads", "uring"])
def test_a_disk_has_the_same_threads_and_descriptors_however_often_it_starts(engine: int, tmp_path: Path) -> None:
    if engine == lib.CORRAL_BLK_URING and lib.corral_blk_uring_probe() < 0:
        pytest.skip("no io_uring here")
    with disk(engine) as (start, work, stop):
        before = threads(), set(os.listdir("/proc/self/fd"))
        for _ in range(100):
            start()
            assert before[0] <= threads()  # the kernel's own may be among them
            stop()
        start()
        work()
        assert set(os.listdir("/proc/self/fd")) == before[1]
        stop()


# linux/io_uring.h
READV, WRITEV, FSYNC, POLL_ADD, ASYNC_CANCEL, FALLOCATE, READ, WRITE = 1, 2, 3, 6, 14, 17, 22, 23
OPERATIONS = 51  # of Linux 6.5


def test_a_ring_takes_only_what_disks_are_made_of() -> None:
    """For io_uring makes its calls past seccomp."""
    if lib.corral_blk_uring_probe() < 0:
        pytest.skip("no io_uring here")
    taken = [number for number in range(OPERATIONS) if lib.corral_blk_uring_try(number) != -errno.EACCES]
    assert taken == [READV, WRITEV, FSYNC, POLL_ADD, ASYNC_CANCEL, FALLOCATE, READ, WRITE]
