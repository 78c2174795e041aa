"""corral image: disk images, made and looked into."""

from __future__ import annotations

import os
import sys

from corral.cli.options import Arguments, Command, Option, parse
from corral.cli.terminal import Progress, leave_on_signals
from corral.config import parse_size
from corral.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.files.file import ImageFile


class _Action(Command):
    """A command whose operands are all needed."""

    def usage(self) -> str:
        return " ".join(["usage: corral", self.name, *self.operands, "[OPTIONS]"])


_SIZE = Option("size", "SIZE", "size of the image, like 512M or 4G (default: the files and a quarter, and 256M)")
_SPACE = """\
The image is sparse: it takes the host's space as it fills. While it is made, as much space is needed beside it."""

ACTIONS = {
    "create": _Action(
        name="image create",
        summary="""\
Makes FILE, a raw disk image of SIZE (like 512M or 4G), with an empty ext4 file system in it. It takes the host's
space only as the guest fills it. A FILE that exists is left alone.""",
        operands=("FILE", "SIZE"),
        options=(Option("empty", "", "no file system: for a guest that partitions its disk itself"),),
        epilog="""\
examples:
  corral image create data.img 4G            a disk that Linux can mount
  corral image create disk.img 20G --empty   a disk for an installer""",
    ),
    "from-dir": _Action(
        name="image from-dir",
        summary="""\
Makes FILE, a raw disk image with an ext4 file system that holds what is in the folder DIR.

Files of yours become root's in the image (root:root), files of others keep their numbers; with root's rights
everything keeps its owner. Modes, times, links, FIFOs and the attributes that you may read stay as they are. The
image's topmost folder is root's, with the mode 755. Everything that is to come along must be readable to you.""",
        operands=("DIR", "FILE"),
        options=(_SIZE,),
        epilog=f"""\
{_SPACE.partition(" While")[0]}

examples:
  corral image from-dir site site.img              as small as is useful
  corral image from-dir rootfs root.img --size 8G  with room for more""",
    ),
    "from-tar": _Action(
        name="image from-tar",
        summary="""\
Makes FILE, a raw disk image with an ext4 file system that holds what is in the archive TAR: plain, or compressed with
gzip, bzip2, xz or zstd. No root is needed: owners (their numbers), modes, times, links, devices and extended
attributes are those that the archive tells.

The archive is not trusted. Nothing of it is ever outside of the image, and one that has .. in a path, puts a file
below a symbolic link, or holds more than --size (without it: than there is space) is refused.""",
        operands=("TAR", "FILE"),
        options=(_SIZE,),
        epilog=f"""\
{_SPACE}

examples:
  corral image from-tar rootfs.tar.xz root.img
  docker export web >web.tar && corral image from-tar web.tar web.img --size 10G""",
    ),
    "info": _Action(
        name="image info",
        summary="""\
Tells what is in the raw image FILE: its size, the space that it takes on the host, its file system or partitions.
What begins like another format (qcow2, VMDK, VHD, VDI...) is refused by name; Corral's disks are raw.""",
        operands=("FILE",),
        options=(Option("format", "raw", "it is raw, whatever it begins with: for a disk that a guest has written"),),
    ),
}

COMMAND = Command(
    name="image",
    summary="""\
  corral image create FILE SIZE     an empty ext4 file system, or with --empty nothing
  corral image from-dir DIR FILE    an ext4 file system of what is in a folder
  corral image from-tar TAR FILE    an ext4 file system of what is in a tar archive
  corral image info FILE            what an image is, and what is in it

Images are raw and sparse, and made without root by the distribution's own tools (Debian package e2fsprogs).
corral image ACTION --help tells more.""",
    operands=("ACTION", "..."),
    words=tuple(ACTIONS),
    epilog="exit status: 0 done; 2 bad usage or input; 3 the host lacks something: e2fsprogs, space",
)


def run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(COMMAND.help())
        return 0 if words else 2
    if words[0] not in ACTIONS:
        from corral import spelling

        known = spelling.unknown("action of corral image", words[0], ACTIONS)
        raise ConfigError(f"{known}; see corral image --help")
    command = ACTIONS[words[0]]
    arguments = parse(command, words[1:])
    if arguments is None:
        print(command.help())
        return 0
    if len(arguments.operands) < len(command.operands):
        needed = " and ".join(command.operands)
        raise ConfigError(f"corral {command.name} needs {needed}; see corral {command.name} --help")
    if words[0] == "info":
        return _info(arguments)
    return _make(words[0], arguments)


def _make(action: str, arguments: Arguments) -> int:
    from corral.images import build

    leave_on_signals()  # what is unfinished goes
    first, second = arguments.operands
    path = first if action == "create" else second
    notices: list[str] = []
    with Progress() as progress:
        if action == "create":
            build.create(path, _bytes(second), "empty" in arguments.values)
        else:
            size = _bytes(arguments.values["size"]) if "size" in arguments.values else None
            make = build.from_folder if action == "from-dir" else build.from_tar
            notices = make(first, path, size, progress)
    for notice in notices:
        print(f"corral: {notice}", file=sys.stderr)
    _print_sizes(path, os.stat(path))
    return 0


def _bytes(text: str) -> int:
    size = parse_size(text)
    if not 0 < size < 1 << 62:
        raise ConfigError(f"{text!r} is not a size for an image; write it like 512M or 4G")
    return size


def _print_sizes(path: str, status: os.stat_result) -> None:
    from corral.files.file import printable
    from corral.images.content import size_text

    used = status.st_blocks * 512
    sparse = ", sparse" if used < status.st_size else ""
    print(f"{printable(path)}: raw, {size_text(status.st_size)}; takes {size_text(used)} here{sparse}")


def _info(arguments: Arguments) -> int:
    from corral.files.file import ImageFile
    from corral.files.format import HEAD_SIZE, foreign_format, refusal

    if arguments.values.get("format", "raw") != "raw":
        raise ConfigError(f"--format {arguments.values['format']!r}: Corral's images are raw; see corral image --help")
    with ImageFile(arguments.operands[0], "image") as file:
        form = foreign_format(file.head(HEAD_SIZE))
        if form is not None and "format" not in arguments.values:
            raise file.error(refusal(form, "--format raw"))
        _print_sizes(file.path, os.stat(file.path))
        if form is not None:
            print(f"  begins like {form}, which means nothing in a raw image")
        _print_content(file)
    return 0


def _print_content(file: ImageFile) -> None:
    from corral.files import partitions
    from corral.files.file import printable
    from corral.images import content

    def read_from(start: int, offset: int, length: int) -> bytes:
        offset += start
        return file.read(offset, min(length, file.size - offset)) if offset < file.size else b""

    def whole(offset: int, length: int) -> bytes:
        return read_from(0, offset, length)

    table = partitions.table(whole)
    if table is None:
        for line in content.describe(whole) or ["no file system or partitions that Corral knows"]:
            print(f"  {line}")
        return
    print(f"  partitions: {table.kind}" + (f"; {table.flaw}" if table.flaw else ""))
    for part in table.partitions:
        name = f" {printable(part.name)}" if part.name else ""
        beyond = "; not all of it is in the image" if part.start + part.size > file.size else ""
        size = content.size_text(part.size)
        print(f"  {part.number:3}  at {part.start:<14} {size:>10}  {part.type}{name}{beyond}")

        def within(offset: int, length: int, start: int = part.start) -> bytes:
            return read_from(start, offset, length)

        for line in content.describe(within):
            print(f"       {line}")
