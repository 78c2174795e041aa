"""Archives are read as tarfile and GNU tar wrote them; broken ones are refused in one line, at once."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.errors import BootError
from corral.files.file import Flaw, ImageFile
from corral.files.stream import unpacked
from corral.files.tar import Archive, Member
from tests.support import kernels

PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": kernels.zstd,
}


def info(name: str, type: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = type
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def pack(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def read(path: Path) -> list[tuple[Member, bytes]]:
    found = []
    with ImageFile(path, "archive") as file:
        archive = Archive(unpacked(file))
        for member in archive:
            data = bytearray(member.size)
            for offset, piece in archive.data(member):
                data[offset : offset + len(piece)] = piece
            found.append((member, bytes(data)))
    return found


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive.tar"


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_tarfile_wrote(format: int, archive: Path) -> None:
    long = "/".join(["folder" * 8] * 3) + "/" + "n" * 90
    owner = 70000 if format == tarfile.USTAR_FORMAT else 3_000_000_000
    archive.write_bytes(
        pack(
            (info("folder/", tarfile.DIRTYPE, mode=0o1777), b""),
            (info(long, mode=0o4755, uid=owner, gid=owner + 1, mtime=1_600_000_000), b"x" * 1000),
            (info("link", tarfile.SYMTYPE, linkname="folder/elsewhere"), b""),
            (info("hard", tarfile.LNKTYPE, linkname=long[:90]), b""),
            (info("null", tarfile.CHRTYPE, devmajor=1, devminor=3), b""),
            (info("disk", tarfile.BLKTYPE, devmajor=254, devminor=700), b""),
            (info("pipe", tarfile.FIFOTYPE), b""),
            format=format,
        )
    )
    found = read(archive)
    members = [member for member, _ in found]
    kinds = ["folder", "file", "symlink", "hard link", "char", "block", "fifo"]
    assert [member.kind for member in members] == kinds
    assert (members[0].mode, members[1].mode) == (0o1777, 0o4755)
    assert members[1].name.decode() == long
    assert (members[1].uid, members[1].gid, members[1].mtime) == (owner, owner + 1, 1_600_000_000)
    assert found[1][1] == b"x" * 1000
    assert (members[2].target, members[3].target) == (b"folder/elsewhere", long[:90].encode())
    assert (members[4].device, members[5].device) == ((1, 3), (254, 700))


def test_attributes_of_pax(archive: Path) -> None:
    member = info("file", pax_headers={"SCHILY.xattr.user.colour": "blue", "comment": "none"})
    archive.write_bytes(pack((member, b"")))
    assert read(archive)[0][0].xattrs == ((b"user.colour", b"blue"),)


@pytest.mark.parametrize("name", PACK)
def test_every_compression(name: str, archive: Path) -> None:
    plain = pack((info("a"), b"a" * 100_000), (info("b"), bytes(range(256)) * 500))
    archive.write_bytes(PACK[name](plain))
    expected = [data for _, data in read(archive)]
    assert [len(data) for data in expected] == [100_000, 128_000]
    archive.write_bytes(PACK[name](plain[:60_000]) + PACK[name](plain[60_000:]))
    assert [data for _, data in read(archive)] == expected


@pytest.mark.parametrize("name", [*PACK, "stored"])
def test_every_cut_is_noticed(name: str, archive: Path) -> None:
    data = PACK.get(name, bytes)(pack((info("a"), b"a" * 5000), (info("b"), b"b" * 700)))
    end = len(data) if name != "stored" else 512 + 5120 + 512 + 1024
    for length in {1, 2, 5, 100, 511, 512, 513, end // 2, end - 9, end - 1, end} - {end if name != "stored" else 0}:
        if length >= len(data) or length <= 0:
            continue
        archive.write_bytes(data[:length])
        with pytest.raises((Flaw, BootError)):
            read(archive)


@pytest.mark.parametrize(
    "options",
    [("--format=gnu",), ("--format=posix",), ("--format=posix", "--sparse-version=0.1"), ("--format=oldgnu",)],
)
def test_sparse_files_of_gnu_tar(options: tuple[str, ...], tmp_path: Path, archive: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        for offset in range(0, 60 << 20, 2 << 20):  # more than fit in one header
            file.seek(offset)
            file.write(b"here is some data" * 50)
        file.truncate(100 << 20)
    command = ["tar", "--sparse", *options, "-cf", str(archive), "-C", str(tmp_path), "sparse"]
    subprocess.run(command, check=True, capture_output=True)
    assert archive.stat().st_size < 2 << 20
    ((member, data),) = read(archive)
    assert member.name == b"sparse"
    assert data == (tmp_path / "sparse").read_bytes()
    assert sum(length for _, length in member.segments) < 2 << 20


def header(**fields: bytes) -> bytes:
    block = bytearray(info("file").tobuf(tarfile.GNU_FORMAT)[:512])
    places = {"mode": 100, "uid": 108, "size": 124, "mtime": 136, "type": 156, "name": 0, "major": 329}
    for name, value in fields.items():
        block[places[name] : places[name] + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


PAX_BOMB = header(type=b"x", size=b"77777777777\0")
HOSTILE = {
    "a negative size": header(size=b"\xff" * 12),
    "a size of 8 EiB": header(size=b"\x80\0\0\0\x7f" + b"\xff" * 7),
    "a pax header of 8 GiB": PAX_BOMB,
    "a name of 8 GiB": header(type=b"L", size=b"77777777777\0"),
    "a name of a negative size": header(type=b"L", size=b"\xff" * 12),
    "letters for a size": header(size=b"twelve\0"),
    "an owner that is none": header(uid=b"\x80" + b"\0" * 3 + b"\xff" * 4),
    "an unknown type": header(type=b"\x1b"),
    "pax without an equals sign": header(type=b"x", size=b"00000000012\0") + b"10 abcdefg\n".ljust(512, b"\0"),
    "pax with a length of 0": header(type=b"x", size=b"00000000012\0") + b"0 a=b\n".ljust(512, b"\0"),
    "a map of pieces without an end": header(type=b"S", size=b"00000000000\0", name=b"s")[:482] + b"\1" * 30,
    "text": b"this is not an archive\n" * 100,
    "lz4": b"\x02\x21\x4c\x18" + bytes(600),
    "xz of a window of 4 GiB": b"\xfd7zXZ\0\0\1\x69\x22\xde\x36\x02\0\x21\1\x28\0\0\0",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives(name: str, archive: Path) -> None:
    archive.write_bytes(HOSTILE[name] + bytes(1024))
    with pytest.raises(Flaw) as caught:
        read(archive)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_a_file_of_many_small_headers_is_quick(archive: Path) -> None:
    digits = b"9" * 1_000_000  # what regular expressions are slow with
    archive.write_bytes(header(type=b"x", size=b"%011o\0" % len(digits)) + digits + bytes(1536))
    with pytest.raises(Flaw):
        read(archive)


SAMPLE = pack(
    (info("folder/", tarfile.DIRTYPE), b""),
    (info("f" * 200, pax_headers={"SCHILY.xattr.user.a": "b"}, uid=1 << 30), b"data" * 300),
    (info("link", tarfile.SYMTYPE, linkname="f"), b""),
)[: 13 * 512]


def summed(data: bytearray) -> bytes:
    """The same with checksums that fit wherever there is a header."""
    for at in range(0, len(data) - 511, 512):
        if data[at + 257 : at + 262] == b"ustar":
            data[at + 148 : at + 156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    return bytes(data)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.binary(min_size=1, max_size=12)), max_size=5), st.booleans()
)
def test_any_damage_is_read_or_refused(changes: list[tuple[int, bytes]], sum_up: bool) -> None:
    data = bytearray(SAMPLE)
    refusal = ""
    for offset, new in changes:
        data[offset : offset + len(new)] = new
    with tempfile.NamedTemporaryFile() as file:
        file.write(summed(data) if sum_up else bytes(data))
        file.flush()
        with ImageFile(file.name, "archive") as opened:
            archive = Archive(unpacked(opened))
            try:
                for member in archive:
                    for _ in archive.data(member):
                        pass
            except Flaw as flaw:
                refusal = str(flaw)
    assert refusal.isprintable()
