"""What programs expect of a file system, of the server of shared folders: held against this host's own file system."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.p9_client import (
    ATIME,
    ATIME_SET,
    BLOCKED,
    GID,
    LERROR,
    MODE,
    MTIME,
    MTIME_SET,
    READ_LOCK,
    ROOT,
    SIZE,
    SUCCESS,
    UID,
    UNLOCK,
    WRITE_LOCK,
    Client,
)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with Client(tmp_path, writable=True) as client:
        yield client


def failure(error: pytest.ExceptionInfo[OSError]) -> int:
    assert error.value.errno is not None
    return error.value.errno


# --- open files ---


def test_what_is_written_is_there_and_read(client: Client, tmp_path: Path) -> None:
    fid = client.create(b"new", os.O_RDWR, 0o640)
    assert client.write(fid, b"hello world") == 11
    assert client.write(fid, b"W", 6) == 1
    assert client.read(fid) == b"hello World"
    assert client.read(fid, 6, 3) == b"Wor"
    assert client.read(fid, 11) == b""
    client.fsync(fid)
    client.fsync(fid, data_only=True)
    assert (tmp_path / "new").read_bytes() == b"hello World"
    assert (tmp_path / "new").stat().st_mode == 0o100640


def test_an_open_file_stays_when_its_name_goes_or_changes(client: Client, tmp_path: Path) -> None:
    gone, moved = client.create(b"gone"), client.create(b"moved")
    names = client.at("gone"), client.at("moved")
    client.write(gone, b"abc")
    client.write(moved, b"def")
    client.unlink(ROOT, b"gone")
    client.rename(ROOT, b"moved", ROOT, b"other")
    for fid, expected in ((gone, b"abc"), (moved, b"def")):
        assert client.read(fid) == expected
        assert client.getattr(fid).size == 3
        client.setattr(fid, SIZE, size=2)
        assert client.read(fid) == expected[:2]
    for fid in names:  # which have been walked to before, and are not open
        assert client.getattr(fid).size == 2
        assert client.read(client.open(client.at(fid=fid))) in (b"ab", b"de")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_new_file_takes_the_place_of_one_that_is_open(client: Client, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "new").write_text("new")
    old = client.open(client.at("old"))
    client.rename(ROOT, b"new", ROOT, b"old")
    assert client.read(old) == b"old"
    assert client.read(client.open(client.at("old"))) == b"new"


def test_appending_is_to_the_end_wherever_that_is(client: Client, tmp_path: Path) -> None:
    fid = client.create(b"log", os.O_WRONLY)
    client.write(fid, b"one ")
    appends = client.open(client.at("log"), os.O_WRONLY | os.O_APPEND)
    with open(tmp_path / "log", "a") as outside:
        outside.write("two ")
    client.write(appends, b"three", 0)
    assert (tmp_path / "log").read_text() == "one two three"


def test_an_open_truncates_and_makes_only_what_it_is_told_to(client: Client, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    with pytest.raises(FileExistsError):
        client.create(b"file", os.O_RDWR | os.O_EXCL)
    assert client.read(client.create(b"file", os.O_RDWR)) == b"content"
    client.open(client.at("file"), os.O_RDONLY)
    assert (tmp_path / "file").read_text() == "content"
    client.open(client.at("file"), os.O_WRONLY | os.O_TRUNC)
    assert (tmp_path / "file").read_text() == ""


def test_a_file_whose_mode_forbids_it_stays_open_for_writing(client: Client, tmp_path: Path) -> None:
    fid = client.create(b"closed", os.O_RDWR, 0o444)
    client.write(fid, b"abc")
    client.setattr(fid, SIZE, size=1)
    assert (tmp_path / "closed").read_bytes() == b"a"


def test_an_open_is_for_what_it_was_asked_for(client: Client, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    reads, writes = client.open(client.at("file")), client.open(client.at("file"), os.O_WRONLY)
    for call in (
        lambda: client.write(reads, b"x"),
        lambda: client.read(writes),
        lambda: client.read(client.at("file")),
    ):
        with pytest.raises(OSError, match="descriptor") as error:
            call()
        assert failure(error) == errno.EBADF
    with pytest.raises(IsADirectoryError):
        client.read(client.open(client.at()))
    with pytest.raises(IsADirectoryError):
        client.open(client.at(), os.O_RDWR)


def test_a_file_much_longer_than_a_message(client: Client, tmp_path: Path) -> None:
    content = os.urandom(1 << 20)
    fid = client.create(b"long")
    for at in range(0, len(content), 60_000):
        assert client.write(fid, content[at : at + 60_000], at) == len(content[at : at + 60_000])
    got = b""
    while part := client.read(fid, len(got), 1 << 30):  # more than a message has room for
        assert len(part) < client.msize
        got += part
    assert got == content
    assert (tmp_path / "long").read_bytes() == content


def test_sparse_files(client: Client, tmp_path: Path) -> None:
    fid = client.create(b"sparse")
    client.setattr(fid, SIZE, size=1 << 40)
    client.write(fid, b"end", (1 << 40) - 3)
    about = client.getattr(fid)
    assert about.size == 1 << 40
    assert about.blocks * 512 < 1 << 20
    assert client.read(fid, (1 << 40) - 5) == b"\0\0end"


# --- names ---


def test_folders_links_and_their_numbers(client: Client, tmp_path: Path) -> None:
    client.mkdir(ROOT, b"folder", 0o700)
    client.create(b"file", folder=client.at("folder"))
    client.link(ROOT, client.at("folder/file"), b"hard")
    client.symlink(ROOT, b"soft", b"folder/file")
    client.link(ROOT, client.at("soft"), b"soft too")
    one, other = client.getattr(client.at("folder/file")), client.getattr(client.at("hard"))
    assert one.qid == other.qid
    assert one.links == other.links == 2
    assert one.qid.path == (tmp_path / "hard").stat().st_ino
    assert client.readlink(client.at("soft too")) == b"folder/file"
    assert (tmp_path / "soft").read_bytes() == b""
    with pytest.raises(OSError, match="not empty"):
        client.unlink(ROOT, b"folder", 0x200)
    with pytest.raises(IsADirectoryError):
        client.unlink(ROOT, b"folder")
    client.unlink(client.at("folder"), b"file")
    client.unlink(ROOT, b"folder", 0x200)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hard", "soft", "soft too"]


def test_a_walk_goes_as_far_as_there_are_names(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert len(client.walk(ROOT, 50, b"a", b"b", b"c", b"d")) == 2
    with pytest.raises(OSError, match="descriptor"):
        client.getattr(50)
    with pytest.raises(FileNotFoundError):
        client.walk(ROOT, 50, b"c")
    assert len(client.walk(ROOT, 50, b"a")) == 1
    assert len(client.walk(50, 50, b"b")) == 1  # itself
    assert client.getattr(50).qid.path == (tmp_path / "a" / "b").stat().st_ino
    with pytest.raises(OSError, match="Invalid"):
        client.walk(ROOT, 50, b"a")


def test_renames_between_folders(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "file").write_text("content")
    inside = client.at("a/file")
    client.rename(client.at("a"), b"file", client.at("b"), b"moved")
    client.rename(ROOT, b"b", client.at("a"), b"b")
    assert (tmp_path / "a" / "b" / "moved").read_text() == "content"
    assert client.read(client.open(inside)) == b"content"
    with pytest.raises(OSError, match="Invalid"):
        client.rename(ROOT, b"a", client.at("a/b"), b"a")


def test_names_of_any_bytes(client: Client, tmp_path: Path) -> None:
    for name in (b"\xff\xfe", b"a b\n", b"x" * 255, "\u00e9".encode(), b"...", b"-"):
        client.mkdir(ROOT, name)
        assert os.path.isdir(os.path.join(os.fsencode(tmp_path), name))
    with pytest.raises(OSError, match="too long"):
        client.mkdir(ROOT, b"x" * 256)


@pytest.mark.parametrize("count", [512, 4096, 1 << 20])
def test_a_folder_of_thousands_is_listed_whole_and_each_offset_goes_on(
    client: Client, tmp_path: Path, count: int
) -> None:
    names = {b"%04d-%s" % (number, b"x" * (number % 200)) for number in range(3000)}
    for name in names:
        os.close(os.open(os.path.join(os.fsencode(tmp_path), name), os.O_CREAT))
    folder = client.open(client.at())
    entries = client.entries(folder, count)
    assert len(entries) == 3002
    assert {entry.name for entry in entries} == names | {b".", b".."}
    assert {entry.kind for entry in entries if entry.name in names} == {8}
    paths = {entry.name: entry.path for entry in entries}
    assert paths[min(names)] == os.stat(os.path.join(os.fsencode(tmp_path), min(names))).st_ino
    for index in (0, 17, 1500, 3000):
        assert client.readdir(folder, entries[index].offset, count)[0] == entries[index + 1]
    for name in sorted(names)[:1000]:  # what was not removed is still listed once
        client.unlink(ROOT, name)
    rest = client.entries(client.open(client.at()), count)
    assert sorted(entry.name for entry in rest) == sorted([*sorted(names)[1000:], b".", b".."])


def test_a_listing_with_no_room_for_one_name(client: Client, tmp_path: Path) -> None:
    (tmp_path / ("x" * 200)).touch()
    folder = client.open(client.at())
    with pytest.raises(OSError, match="Invalid"):
        client.readdir(folder, 0, 24)


# --- attributes ---


def test_modes_times_and_sizes(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("content")
    fid = client.at("file")
    times = ATIME | MTIME | ATIME_SET | MTIME_SET
    client.setattr(fid, MODE | SIZE | times, 0o1751, size=3, atime=1_000_000_000_000_000_005, mtime=7)
    about = file.stat()
    assert stat.S_IMODE(about.st_mode) == 0o1751
    assert (about.st_size, about.st_atime_ns, about.st_mtime_ns) == (3, 1_000_000_000_000_000_005, 7)
    assert client.getattr(fid).mtime == 7
    client.setattr(fid, MTIME)
    assert file.stat().st_mtime_ns > 10**18
    assert file.stat().st_atime_ns == 1_000_000_000_000_000_005
    for size in (1 << 63, (1 << 64) - 1):
        with pytest.raises(OSError, match="Invalid"):
            client.setattr(fid, SIZE, size=size)


def test_owners(client: Client, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root's server gives files to others")
    client.attach(5, user=1234)
    fid = client.at(fid=5)
    client.ask(14, struct.pack("<IH", fid, 4) + b"made" + struct.pack("<III", os.O_RDWR, 0o644, 4321))
    client.mkdir(5, b"folder", gid=4321)
    client.symlink(5, b"link", b"made", gid=4321)
    for name in ("made", "folder", "link"):
        about = (tmp_path / name).lstat()
        assert (about.st_uid, about.st_gid) == (1234, 4321)
    client.create(b"root's")
    assert (tmp_path / "root's").stat().st_uid == 0
    client.setattr(client.at("made"), UID | GID, uid=12, gid=34)
    client.setattr(client.at("link"), UID, uid=56)
    assert ((tmp_path / "made").stat().st_uid, (tmp_path / "made").stat().st_gid) == (12, 34)
    assert ((tmp_path / "link").lstat().st_uid, (tmp_path / "link").lstat().st_gid) == (56, 4321)
    assert client.getattr(client.at("made"))[3:5] == (12, 34)


def test_the_group_of_a_folder_that_passes_it_on(client: Client, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root's server gives files to others")
    os.chown(tmp_path, 0, 77)
    tmp_path.chmod(0o2755)
    client.create(b"file", gid=5)
    client.mkdir(ROOT, b"folder", gid=5)
    assert (tmp_path / "file").stat().st_gid == 77
    assert (tmp_path / "folder").stat().st_gid == 77
    assert (tmp_path / "folder").stat().st_mode == 0o042755


def test_extended_attributes(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    fid = client.at("file")
    try:
        os.setxattr(file, "user.try", b"x")
        os.removexattr(file, "user.try")
    except OSError as error:
        pytest.skip(f"not on this file system: {error}")
    client.setxattr(fid, b"user.a", b"value")
    client.setxattr(fid, b"user.empty", b"")
    assert os.getxattr(file, "user.a") == client.getxattr(fid, b"user.a") == b"value"
    assert sorted(client.getxattr(fid, b"").split(b"\0")) == [b"", b"user.a", b"user.empty"]
    with pytest.raises(FileExistsError):
        client.setxattr(fid, b"user.a", b"other", os.XATTR_CREATE)
    client.setxattr(fid, b"user.a", b"", os.XATTR_REPLACE)  # how Linux removes one
    assert os.listxattr(file) == ["user.empty"]
    with pytest.raises(OSError, match="No data"):
        client.getxattr(fid, b"user.a")
    with pytest.raises(OSError, match="too long"):
        client.setxattr(fid, b"user.b", bytes(70_000))
    for number in range(200):  # none is left over
        client.setxattr(fid, b"user.n", b"%d" % number)


def test_the_room_that_is_left(client: Client, tmp_path: Path) -> None:
    about = os.statvfs(tmp_path)
    kind, size, blocks, *_, longest = client.statfs(ROOT)
    assert (kind, size, blocks, longest) == (0x01021997, about.f_bsize, about.f_blocks, about.f_namemax)


# --- locks ---


def test_locks_are_known_outside(client: Client, tmp_path: Path) -> None:
    fid = client.create(b"file")
    client.write(fid, bytes(100))
    with open(tmp_path / "file", "r+b") as outside:
        assert client.lock(fid, WRITE_LOCK, 10, 10) == SUCCESS
        with pytest.raises(BlockingIOError):
            fcntl.lockf(outside, fcntl.LOCK_SH | fcntl.LOCK_NB, 5, 15)
        fcntl.lockf(outside, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 20)
        assert client.lock(fid, READ_LOCK, 25, 1) == BLOCKED
        assert client.getlock(fid, READ_LOCK, 0, 0) == (WRITE_LOCK, 20, 10)
        assert client.getlock(fid, READ_LOCK, 30, 0)[0] == UNLOCK
        client.lock(fid, UNLOCK)
        fcntl.lockf(outside, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_free(path: Path, at: int) -> bool:
    with open(path, "r+b") as outside:
        try:
            fcntl.lockf(outside, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
        except BlockingIOError:
            return False
        return True


def test_to_the_host_a_guest_is_one_and_holds_what_any_of_its_processes_holds(client: Client, tmp_path: Path) -> None:
    """Between them the guest's kernel decides. It may tell of an end later than of the next begin."""
    first, second = client.create(b"file"), client.open(client.at("file"), os.O_RDWR)
    path = tmp_path / "file"
    assert client.lock(first, WRITE_LOCK, 0, 10, process=1) == SUCCESS
    assert client.lock(second, WRITE_LOCK, 5, 10, process=2) == SUCCESS
    client.lock(first, UNLOCK, process=1)
    assert [is_free(path, at) for at in (0, 4, 5, 14, 15)] == [True, True, False, False, True]
    client.lock(second, UNLOCK, 8, 2, process=2)
    assert [is_free(path, at) for at in (5, 7, 8, 9, 10)] == [False, False, True, True, False]
    client.lock(first, UNLOCK, process=2)  # by another descriptor of the same process: as POSIX has it
    assert is_free(path, 5)


def test_locks_end_with_the_file_they_were_taken_by(client: Client, tmp_path: Path) -> None:
    fid, other = client.create(b"file"), client.open(client.at("file"), os.O_RDWR)
    client.lock(fid, WRITE_LOCK, 0, 1)
    client.lock(other, WRITE_LOCK, 1, 1, process=2)
    client.clunk(fid)
    assert is_free(tmp_path / "file", 0)
    assert not is_free(tmp_path / "file", 1)


def test_locks_are_as_many_as_there_is_room_for(client: Client) -> None:
    fid = client.create(b"file")
    for at in range(1023):
        assert client.lock(fid, WRITE_LOCK, 2 * at, 1) == SUCCESS
    with pytest.raises(OSError, match="locks") as error:
        client.lock(fid, WRITE_LOCK, 4000, 1)
    assert failure(error) == errno.ENOLCK
    client.clunk(fid)
    assert client.lock(client.open(client.at("file"), os.O_RDWR), WRITE_LOCK) == SUCCESS


# --- at the same time ---


def test_many_at_once_are_all_answered_with_what_is_theirs(client: Client, tmp_path: Path) -> None:
    """More than there are threads: reads, writes and syncs of files of their own."""
    fids = [client.create(b"%d" % index) for index in range(40)]
    answers: dict[int, tuple[int, bytes]] = {}

    def receive() -> None:
        for _ in range(3 * len(fids)):
            kind, tag, body = client.receive()
            answers[tag] = kind, body

    thread = threading.Thread(target=receive)
    thread.start()
    for step in range(3):
        for index, fid in enumerate(fids):
            tag = step * 100 + index
            if step == 0:
                content = bytes([index]) * 50_000
                client.send(118, struct.pack("<IQI", fid, 0, len(content)) + content, tag)
            elif step == 1:
                client.send(50, struct.pack("<II", fid, 0), tag)
            else:
                client.send(108, struct.pack("<H", index), tag)  # taken back: it is answered first
    thread.join(20)
    assert not thread.is_alive()
    assert LERROR not in {kind for kind, _ in answers.values()}
    for index in range(len(fids)):
        assert (tmp_path / str(index)).read_bytes() == bytes([index]) * 50_000
