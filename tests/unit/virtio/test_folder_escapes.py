"""What the server of a shared folder refuses: ways out of the folder, changes of one that is to be read, privileges."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.p9_client import MODE, READ_LOCK, ROOT, SIZE, SUCCESS, WRITE_LOCK, Client, string

NEITHER = pytest.mark.parametrize("writable", [False, True])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a secret beside it."""
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "hello").write_text("hello from outside")
    return folder


@pytest.fixture
def reader(folder: Path) -> Iterator[Client]:
    with Client(folder) as client:
        yield client


@pytest.fixture
def writer(folder: Path) -> Iterator[Client]:
    with Client(folder, writable=True) as client:
        yield client


# --- ways out ---

WAYS_OUT: list[list[bytes]] = [
    [b"..", b"secret"],
    [b"../secret"],
    [b"link"],
    [b"up", b"secret"],
    [b"up/secret"],
    [b"sub", b"..", b"..", b"secret"],
    [b"sub/../../secret"],
    [b"absolute"],
    [b"root", b"etc", b"hostname"],
    [b"."],
    [b""],
    [b"sub", b"."],
    [b"hello\0"],
    [b".."] * 16,
]


@NEITHER
@pytest.mark.parametrize("names", WAYS_OUT)
def test_no_name_leads_out(folder: Path, names: list[bytes], writable: bool) -> None:
    (folder / "link").symlink_to("../secret")
    (folder / "up").symlink_to("..")
    (folder / "absolute").symlink_to(folder.parent / "secret")
    (folder / "root").symlink_to("/proc/self/root")
    with Client(folder, writable=writable) as client:
        before = sorted(path.name for path in folder.iterdir())
        try:
            reached = len(client.walk(ROOT, 50, *names)) == len(names)
        except OSError:
            reached = False
        if reached:  # a link, that is not followed
            assert names in ([b"link"], [b"absolute"])
            for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDONLY | os.O_DIRECTORY):
                with pytest.raises(OSError, match=r"symbolic|Read-only"):
                    client.open(50, flags)
            with pytest.raises(OSError, match="Not a directory"):
                client.walk(50, 51, b"x")
        assert sorted(path.name for path in folder.iterdir()) == before
    assert (folder.parent / "secret").read_text() == "secret"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["folder", "secret"]


@pytest.mark.parametrize("name", [b"..", b".", b"a/b", b"/x", b"../x", b"", b"x\0y"])
def test_names_that_no_folder_can_have(writer: Client, folder: Path, name: bytes) -> None:
    hello = writer.at("hello")
    calls: list[Callable[[], object]] = [
        lambda: writer.mkdir(ROOT, name),
        lambda: writer.mknod(ROOT, name, stat.S_IFIFO | 0o644),
        lambda: writer.symlink(ROOT, name, b"hello"),
        lambda: writer.link(ROOT, hello, name),
        lambda: writer.create(name),
        lambda: writer.rename(ROOT, b"hello", ROOT, name),
        lambda: writer.rename(ROOT, name, ROOT, b"new"),
        lambda: writer.unlink(ROOT, name),
        lambda: writer.unlink(ROOT, name, 0x200),
    ]
    for call in calls:
        with pytest.raises(OSError, match="Invalid"):
            call()
    assert sorted(path.name for path in folder.iterdir()) == ["hello", "sub"]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["folder", "secret"]


def test_a_folder_that_is_moved_out_leads_nowhere_else(writer: Client, folder: Path) -> None:
    """What the guest had reached it has; what is above and beside its new place it has not."""
    inside = writer.at("sub")
    (folder / "sub").rename(folder.parent / "moved")
    for names in ([b".."], [b"..", b"secret"], [b"../secret"]):
        with pytest.raises(OSError, match="No such file"):
            writer.walk(inside, 60, *names)
    with pytest.raises(OSError, match="No such file"):
        writer.walk(ROOT, 60, b"sub")


def test_a_folder_that_is_moved_out_and_back_all_the_time(writer: Client, folder: Path) -> None:
    """While names are looked up in it. In its other place there is another file of that name beside it."""
    (folder / "sub" / "deep").mkdir()
    (folder / "sub" / "deep" / "file").write_text("ours")
    other = folder.parent / "other"
    other.mkdir()
    (other / "file").write_text("secret")
    ends = threading.Event()

    def move() -> None:
        while not ends.is_set():
            os.rename(folder / "sub" / "deep", other / "deep")
            os.rename(other / "deep", folder / "sub" / "deep")

    mover = threading.Thread(target=move)
    mover.start()
    seen = set()
    try:
        deep = next(fid for _ in range(10_000) if (fid := reached(writer, ROOT, b"sub", b"deep")))
        for _ in range(300):
            for names in ([b"file"], [b"..", b"file"], [b"..", b"..", b"other", b"file"]):
                if fid := reached(writer, deep, *names):
                    try:
                        seen.add(writer.read(writer.open(fid)))
                    except PermissionError:  # it is outside just now, which Landlock sees
                        pass
                    writer.clunk(fid)
    finally:
        ends.set()
        mover.join()
    assert seen <= {b"ours"}


def reached(client: Client, fid: int, *names: bytes) -> int:
    """A new fid; 0 where there is nothing by these names."""
    try:
        return client.at("/".join(map(os.fsdecode, names)), fid)
    except OSError:
        return 0


@NEITHER
def test_what_is_mounted_below_is_an_empty_folder(folder: Path, writable: bool) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "below", str(folder / "sub")], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        (folder / "sub" / "secret").write_text("secret")
        with Client(folder, writable=writable) as client:
            sub = client.at("sub")
            about = client.getattr(sub)
            assert stat.S_ISDIR(about.mode)
            assert about.qid.path != (folder / "sub").stat().st_ino
            with pytest.raises(FileNotFoundError):
                client.at("sub/secret")
            assert [entry.name for entry in client.entries(client.open(client.at("sub")))] == [b".", b".."]
            assert client.walk(sub, 70) == []
            if writable:
                calls: list[Callable[[], object]] = [
                    lambda: client.mkdir(sub, b"new"),
                    lambda: client.create(b"new", folder=sub),
                    lambda: client.symlink(sub, b"new", b"x"),
                    lambda: client.link(sub, client.at("hello"), b"new"),
                    lambda: client.rename(sub, b"secret", ROOT, b"new"),
                    lambda: client.rename(ROOT, b"hello", sub, b"new"),
                    lambda: client.unlink(sub, b"secret"),
                    lambda: client.setattr(sub, MODE, 0o777),
                ]
                for call in calls:
                    with pytest.raises(OSError, match="cross-device") as error:
                        call()
                    assert error.value.errno == errno.EXDEV
                with pytest.raises(OSError, match="busy"):
                    client.unlink(ROOT, b"sub", 0x200)
        assert [path.name for path in (folder / "sub").iterdir()] == ["secret"]
    finally:
        subprocess.run(["umount", str(folder / "sub")], check=True)


def test_a_file_that_is_mounted_over_another_is_not_reached(folder: Path) -> None:
    command = ["mount", "--bind", str(folder.parent / "secret"), str(folder / "hello")]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        with Client(folder, writable=True) as client:
            with pytest.raises(OSError, match="cross-device"):
                client.at("hello")
            with pytest.raises(OSError, match="cross-device"):
                client.create(b"hello", os.O_WRONLY | os.O_TRUNC)
    finally:
        subprocess.run(["umount", str(folder / "hello")], check=True)
    assert (folder.parent / "secret").read_text() == "secret"


# --- a folder that is to be read ---

# On fid 1, the folder; 2, its file `hello`; 3, the folder again, and free for an open.
CHANGES = {
    "lopen for writing": (12, struct.pack("<II", 2, os.O_WRONLY)),
    "lopen to read and write": (12, struct.pack("<II", 2, os.O_RDWR)),
    "lopen that truncates": (12, struct.pack("<II", 2, os.O_RDONLY | os.O_TRUNC)),
    "lopen that appends": (12, struct.pack("<II", 2, os.O_WRONLY | os.O_APPEND)),
    "lopen with a strange mode": (12, struct.pack("<II", 2, os.O_ACCMODE)),
    "lcreate": (14, struct.pack("<I", 3) + string(b"new") + struct.pack("<III", os.O_RDWR, 0o644, 0)),
    "lcreate of one that is there": (
        14,
        struct.pack("<I", 3) + string(b"hello") + struct.pack("<III", os.O_TRUNC, 0o644, 0),
    ),
    "symlink": (16, struct.pack("<I", 1) + string(b"new") + string(b"hello") + struct.pack("<I", 0)),
    "mknod": (18, struct.pack("<I", 1) + string(b"new") + struct.pack("<IIII", 0o10644, 0, 0, 0)),
    "setattr of the mode": (26, struct.pack("<IIIIIQQQQQ", 2, 1, 0o777, 0, 0, 0, 0, 0, 0, 0)),
    "setattr of the size": (26, struct.pack("<IIIIIQQQQQ", 2, 8, 0, 0, 0, 0, 0, 0, 0, 0)),
    "setattr of the times": (26, struct.pack("<IIIIIQQQQQ", 2, 0x1B0, 0, 0, 0, 0, 1, 0, 1, 0)),
    "xattrcreate": (32, struct.pack("<I", 2) + string(b"user.new") + struct.pack("<QI", 1, 0)),
    "xattrcreate of nothing": (32, struct.pack("<I", 2) + string(b"user.new") + struct.pack("<QI", 0, 0)),
    "link": (70, struct.pack("<II", 1, 2) + string(b"new")),
    "mkdir": (72, struct.pack("<I", 1) + string(b"new") + struct.pack("<II", 0o755, 0)),
    "renameat": (74, struct.pack("<I", 1) + string(b"hello") + struct.pack("<I", 1) + string(b"new")),
    "unlinkat": (76, struct.pack("<I", 1) + string(b"hello") + struct.pack("<I", 0)),
    "write": (118, struct.pack("<IQI", 2, 0, 3) + b"new"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_nothing_changes_a_folder_that_is_to_be_read(reader: Client, folder: Path, what: str) -> None:
    reader.walk(ROOT, 2, b"hello")
    reader.walk(ROOT, 3)
    file = folder / "hello"
    before = file.stat()
    with pytest.raises(OSError, match="Read-only") as error:
        reader.ask(*CHANGES[what])
    assert error.value.errno == errno.EROFS
    for fid in (2, 3):
        with pytest.raises(OSError, match="Read-only"):
            reader.write(fid, b"new")
    after = file.stat()
    assert sorted(path.name for path in folder.iterdir()) == ["hello", "sub"]
    assert file.read_text() == "hello from outside"
    changing = ("st_mode", "st_uid", "st_size", "st_mtime_ns", "st_nlink", "st_ctime_ns")
    assert [getattr(after, name) for name in changing] == [getattr(before, name) for name in changing]
    assert not os.listxattr(file)


def test_a_folder_that_is_to_be_read_has_locks_of_readers(reader: Client) -> None:
    fid = reader.open(reader.at("hello"))
    assert reader.lock(fid, READ_LOCK) == SUCCESS
    with pytest.raises(OSError, match="Read-only"):
        reader.lock(fid, WRITE_LOCK)


# --- privileges ---


def set_mode(fid: int, valid: int, mode: int) -> tuple[int, bytes]:
    return 26, struct.pack("<IIIIIQQQQQ", fid, valid, mode, 0, 0, 0, 0, 0, 0, 0)


def make_node(mode: int) -> tuple[int, bytes]:
    return 18, struct.pack("<I", 1) + string(b"new") + struct.pack("<IIII", mode, 8, 0, 0)


def make_file(mode: int) -> tuple[int, bytes]:
    return 14, struct.pack("<I", 3) + string(b"new") + struct.pack("<III", os.O_RDWR, mode, 0)


def set_attribute(name: bytes) -> tuple[int, bytes]:
    return 32, struct.pack("<I", 2) + string(name) + struct.pack("<QI", 1, 0)


PRIVILEGES = {
    "a block device": make_node(0o60644),
    "a character device": make_node(0o20644),
    "a folder as a node": make_node(0o40755),
    "a set-uid FIFO": make_node(0o14644),
    "a set-gid FIFO": make_node(0o12644),
    "a set-uid file": make_file(0o4755),
    "a set-gid file": make_file(0o2755),
    "a set-uid bit": set_mode(2, 1, 0o4755),
    "a set-gid bit": set_mode(2, 1, 0o102755),
    "both, and times": set_mode(2, 0x1B1, 0o106755),
    "a file's capabilities": set_attribute(b"security.capability"),
    "a label": set_attribute(b"security.selinux"),
    "a trusted attribute": set_attribute(b"trusted.overlay.opaque"),
}


@pytest.mark.parametrize("what", PRIVILEGES)
def test_nothing_that_gives_the_host_s_users_rights_can_be_made(writer: Client, folder: Path, what: str) -> None:
    writer.walk(ROOT, 2, b"hello")
    writer.walk(ROOT, 3)
    before = (folder / "hello").stat().st_mode
    with pytest.raises(PermissionError):
        writer.ask(*PRIVILEGES[what])
    assert sorted(path.name for path in folder.iterdir()) == ["hello", "sub"]
    assert (folder / "hello").stat().st_mode == before
    assert not os.listxattr(folder / "hello")


def test_what_is_no_privilege_goes_on(writer: Client, folder: Path) -> None:
    hello = writer.at("hello")
    writer.setattr(hello, MODE, 0o1640)
    writer.ask(*set_mode(hello, 0x20, 0o6755))  # the times: no mode is set
    writer.mkdir(ROOT, b"new", 0o2755)  # as Linux makes one in a folder that passes its group on
    for name, mode in ((b"fifo", stat.S_IFIFO | 0o640), (b"socket", stat.S_IFSOCK | 0o640), (b"file", 0o600)):
        writer.mknod(ROOT, name, mode)
    assert (folder / "hello").stat().st_mode == 0o101640
    assert (folder / "new").stat().st_mode == 0o040755
    assert (folder / "fifo").stat().st_mode == 0o010640
    assert (folder / "socket").stat().st_mode == 0o140640
    assert (folder / "file").stat().st_mode == 0o100600


@NEITHER
def test_what_is_no_file_is_not_opened(folder: Path, writable: bool) -> None:
    """An open of a FIFO waits for its other end, one of a device does what that device does."""
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "socket"))
    names = ["fifo", "socket"]
    if os.geteuid() == 0:
        os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        names.append("null")
    with Client(folder, writable=writable) as client:
        for name in names * 20:
            for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
                with pytest.raises(OSError, match="No such device or address"):
                    client.open(client.at(name), flags)
            if writable:
                with pytest.raises(OSError, match="No such device or address"):
                    client.create(name.encode(), os.O_WRONLY)
        with pytest.raises(OSError, match=r"Read-only|Invalid"):
            client.setattr(client.at("fifo"), SIZE)
        assert client.getattr(client.at("fifo")).mode & 0o170000 == stat.S_IFIFO
