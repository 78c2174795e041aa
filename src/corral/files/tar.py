"""Tar archives: ustar, GNU and pax, read from start to end with every number checked and every length bounded.

Not tarfile, which reads a header of any size into memory, and whose headers can send it back to where it was.
Sources: POSIX, pax; the GNU tar manual, "Basic Tar Format" and "Storing Sparse Files".
"""

from __future__ import annotations

import os
import stat
import struct

from corral.files import xattr
from corral.files.file import Flaw, printable
from corral.files.stream import ends_early
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.files.stream import Stream

_BLOCK = 512
_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x")
_LONGEST_TEXT = 1 << 20  # of a pax header or a long name
# Of all headers together: what any archive may have, and what it may have more for each of its members.
_HEADERS, _MORE_HEADERS = 10_000, 4
_TEXT, _MORE_TEXT = 4 << 20, 16 << 10
_RECORDS, _MORE_RECORDS = 20_000, 100
_MOST_GLOBALS = 1000  # records that hold for all members
_MOST_SKIPPED = 64 << 20  # bytes of what is in the archive and in no file
_LARGEST_FILE = (1 << 44) - 4096  # on ext4
_LATEST = (1 << 31) - 1  # seconds: later times need a newer mke2fs
_MOST_SEGMENTS = 100_000
_LAST_OWNER = (1 << 32) - 2  # the one behind it stands for "none"
_DATA = b"0\x007S"
_KINDS = {
    **dict.fromkeys([b"0", b"\0", b"7", b"S"], "file"),
    b"1": "hard link",
    b"2": "symlink",
    b"3": "char",
    b"4": "block",
    b"5": "folder",
    b"6": "fifo",
    b"D": "folder",
}
TYPES = {
    "file": stat.S_IFREG,
    "symlink": stat.S_IFLNK,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
    "folder": stat.S_IFDIR,
    "fifo": stat.S_IFIFO,
}  # of a member's kind, as in an inode's mode


@record(frozen=True)
class Member:
    """`size` is what a file's length says; `segments` (offset, length) are where it has data, in ascending order."""

    name: bytes
    kind: str
    mode: int
    uid: int
    gid: int
    mtime: int
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    size: int = 0
    segments: tuple[tuple[int, int], ...] = ()
    xattrs: xattr.Pairs = ()
    left_out: tuple[bytes, ...] = ()  # names of attributes that no file can have

    def flaw(self, text: str) -> Flaw:
        return member_flaw(self.name, text)


def member_flaw(name: bytes, text: str) -> Flaw:
    shown = os.fsdecode(name)
    return Flaw(f"member {printable(shown if len(shown) <= 200 else shown[:200] + '...')}: {text}")


_ODD = "it is damaged, or not meant well"


class Archive:
    """The members of the archive in `stream`, by iteration; data() has the bytes of the one that came last.

    `vouched_for`: something else says that it is whole, so it may be without the empty blocks at its end."""

    def __init__(self, stream: Stream, vouched_for: bool = False) -> None:
        self._stream = stream
        self._vouched_for = vouched_for
        self._globals: dict[bytes, bytes] = {}
        self._members = self._headers = self._text_size = self._records = self._skipped = 0
        self._left = 0  # of the last member's data, and then of its padding
        self._padding = 0

    def data(self, member: Member) -> Iterator[tuple[int, memoryview]]:
        """Its pieces, each with its offset in the file."""
        for offset, length in member.segments:
            end = offset + length
            while offset < end:
                piece = self._stream.piece(end - offset)
                if not piece:
                    raise ends_early()
                self._left -= len(piece)
                yield offset, piece
                offset += len(piece)

    def __iter__(self) -> Iterator[Member]:
        pax: dict[bytes, bytes] = {}
        long_name = long_target = None
        while True:
            self._skip(self._left + self._padding)
            self._left = self._padding = 0
            if self._vouched_for and not self._stream.peek(1):
                return
            block = self._stream.exactly(_BLOCK)
            if not any(block):
                self._stream.finish()
                return
            fields = _HEADER.unpack(block)
            _check(block, fields[6])
            kind = fields[7]
            self._headers += 1
            self._require_few(self._headers, _HEADERS, _MORE_HEADERS, "headers")
            if kind == b"g":
                self._globals.update(self._pax(fields[4]))
                if len(self._globals) > _MOST_GLOBALS:
                    raise Flaw(f"has more than {_MOST_GLOBALS} global pax records; {_ODD}")
            elif kind in b"xX":
                pax = self._pax(fields[4])
            elif kind == b"L":
                long_name = _c_string(self._text(fields[4]))
            elif kind == b"K":
                long_target = _c_string(self._text(fields[4]))
            elif kind == b"V":  # the name of the volume
                pass
            else:
                self._members += 1
                yield self._member(block, {**self._globals, **pax}, long_name, long_target)
                pax, long_name, long_target = {}, None, None

    def _text(self, size: bytes) -> bytes:
        length = _number(size, "size")
        if not 0 <= length <= _LONGEST_TEXT:
            raise Flaw(f"has a header of {length} bytes; {_ODD}")
        self._text_size += length
        self._require_few(self._text_size, _TEXT, _MORE_TEXT, "bytes of headers")
        data = self._stream.exactly(length)
        self._padding = -length % _BLOCK
        return data

    def _pax(self, size: bytes) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for key, value in _records(self._text(size)):
            self._records += 1
            self._require_few(self._records, _RECORDS, _MORE_RECORDS, "pax records")
            found[key] = value
        return found

    def _require_few(self, count: int, any_archive: int, a_member: int, what: str) -> None:
        if count > any_archive + a_member * self._members:
            raise Flaw(f"has {count} {what} for {self._members} files; {_ODD}")

    def _skip(self, size: int) -> None:
        self._skipped += size
        if self._skipped > _MOST_SKIPPED + _BLOCK * self._members:
            raise Flaw(f"has more than {_MOST_SKIPPED >> 20} MiB that belong to no file; {_ODD}")
        self._stream.skip(size)

    def _member(
        self, block: bytes, pax: dict[bytes, bytes], long_name: bytes | None, long_target: bytes | None
    ) -> Member:
        name, mode, uid, gid, stored, mtime, _, kind, target, magic, _, _, _, major, minor, prefix = _HEADER.unpack(
            block
        )
        name = _c_string(name)
        if magic == b"ustar\0" and (prefix := _c_string(prefix)):
            name = prefix + b"/" + name
        name = pax.get(b"GNU.sparse.name") or pax.get(b"path") or long_name or name
        if kind not in _KINDS:
            shown = printable(kind.decode("latin-1"))
            raise member_flaw(name, f"is of the type {shown}, which no file system has; make the archive again")
        what = _KINDS[kind]
        if what == "file" and name.endswith(b"/"):  # as before ustar
            what = "folder"
        size = _decimal(pax[b"size"], "size") if b"size" in pax else _number(stored, "size")
        if not 0 <= size <= _LARGEST_FILE:
            raise member_flaw(name, f"has a size of {size}; {_ODD}")
        self._left, self._padding = (size, -size % _BLOCK) if kind in _DATA or kind == b"D" else (0, 0)
        length, segments = self._segments(name, kind, block, pax, size) if what == "file" else (0, ())
        kept, left_out = xattr.sort_out(pax)
        return Member(
            name=name,
            kind=what,
            mode=_number(mode, "mode") & 0o7777,
            uid=_owner(name, pax, b"uid", uid),
            gid=_owner(name, pax, b"gid", gid),
            mtime=min(max(_seconds(pax[b"mtime"]) if b"mtime" in pax else _number(mtime, "time"), 0), _LATEST),
            target=pax.get(b"linkpath") or long_target or _c_string(target),
            device=(_number(major, "device"), _number(minor, "device")) if what in ("char", "block") else (0, 0),
            size=length,
            segments=segments,
            xattrs=kept,
            left_out=left_out,
        )

    def _segments(
        self, name: bytes, kind: bytes, block: bytes, pax: dict[bytes, bytes], stored: int
    ) -> tuple[int, tuple[tuple[int, int], ...]]:
        """The file's length and where it has data, from whichever of the ways to say so it was."""
        if kind == b"S":
            length, numbers = _number(block[483:495], "size"), self._gnu_map(block)
        elif b"GNU.sparse.major" in pax:
            if (pax[b"GNU.sparse.major"], pax.get(b"GNU.sparse.minor")) != (b"1", b"0"):
                raise member_flaw(name, "is a sparse file in a way that Corral does not know; tar it without --sparse")
            length, numbers = _decimal(pax.get(b"GNU.sparse.realsize", b""), "size"), self._map_in_data(name)
        elif b"GNU.sparse.map" in pax:
            length = _decimal(pax.get(b"GNU.sparse.size", b""), "size")
            numbers = [_decimal(text, "map") for text in pax[b"GNU.sparse.map"].split(b",")]
        elif b"GNU.sparse.size" in pax:
            raise member_flaw(name, "is a sparse file of an old GNU tar; tar it again, or without --sparse")
        else:
            return stored, ((0, stored),) if stored else ()
        segments = [(offset, length) for offset, length in zip(numbers[::2], numbers[1::2], strict=False) if length]
        end = 0
        for offset, size in segments:
            if offset < end or size < 0:
                raise member_flaw(name, f"has a map of its data that goes backwards; {_ODD}")
            end = offset + size
        if end > length or not 0 <= length <= _LARGEST_FILE or sum(size for _, size in segments) != self._left:
            raise member_flaw(name, f"has a map of its data that does not fit; {_ODD}")
        return length, tuple(segments)

    def _gnu_map(self, block: bytes) -> list[int]:
        numbers: list[int] = []
        part, more = block[386:482], block[482]
        while True:
            for at in range(0, len(part), 24):
                if any(part[at : at + 24]):
                    numbers += _number(part[at : at + 12], "map"), _number(part[at + 12 : at + 24], "map")
            if not more:
                return numbers
            if len(numbers) > 2 * _MOST_SEGMENTS:
                raise Flaw("has a sparse file of too many pieces; tar it without --sparse")
            block = self._stream.exactly(_BLOCK)
            part, more = block[:504], block[504]

    def _map_in_data(self, name: bytes) -> list[int]:
        """How many segments there are and their numbers, each on a line, padded to a block: the data begins so."""
        numbers: list[int] = []
        line = b""
        while not numbers or len(numbers) <= 2 * numbers[0]:
            if self._left < _BLOCK or len(line) > _BLOCK or (numbers and numbers[0] > _MOST_SEGMENTS):
                raise member_flaw(name, f"has a map of its data that does not fit; {_ODD}")
            *lines, line = (line + self._stream.exactly(_BLOCK)).split(b"\n")
            self._left -= _BLOCK
            for text in lines:
                if not numbers or len(numbers) <= 2 * numbers[0]:
                    numbers.append(_decimal(text, "map"))
        return numbers[1:]


def _check(block: bytes, checksum: bytes) -> None:
    total = sum(block) - sum(checksum) + 8 * ord(" ")
    if _number(checksum, "checksum") != total:
        raise Flaw("is not a tar archive, or damaged; check that it is the right file, or download it again")


def _c_string(data: bytes) -> bytes:
    return data.partition(b"\0")[0]


def _number(field: bytes, what: str) -> int:
    """Octal digits, or behind a set bit the number itself."""
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        number = int.from_bytes(field, "big") - (1 << bits)
        return number - (1 << bits) if field[0] & 0x40 else number
    digits = _c_string(field).strip(b" ")
    if digits.strip(b"01234567"):
        raise Flaw(f"is not a tar archive, or damaged (a {what} of {digits!r}); download it again")
    return int(digits or b"0", 8)


def _decimal(text: bytes, what: str) -> int:
    if not text.isdigit() or len(text) > 20:
        raise Flaw(f"is damaged (a {what} of {text[:32]!r}); download or make it again")
    return int(text)


def _seconds(text: bytes) -> int:
    """Of a time like 1700000000.25, or one before 1970."""
    whole = text.partition(b".")[0]
    return 0 if whole.startswith(b"-") else _decimal(whole, "time")


def _owner(name: bytes, pax: dict[bytes, bytes], key: bytes, field: bytes) -> int:
    number = _decimal(pax[key], "number") if key in pax else _number(field, "number")
    if not 0 <= number <= _LAST_OWNER:
        raise member_flaw(name, f"belongs to {key.decode()} {number}, which Linux does not have; make it again")
    return number


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Of the shape "length key=value\\n"."""
    at = 0
    while at < len(data) and data[at]:
        digits, space, _ = data[at : at + 9].partition(b" ")
        end = at + _decimal(digits, "length") if space else 0
        key, equals, value = data[at + len(digits) + 1 : end].partition(b"=")
        if not equals or not at < end <= len(data) or value[-1:] != b"\n":
            raise Flaw("has a damaged pax header; download or make it again")
        yield key, value[:-1]
        at = end
