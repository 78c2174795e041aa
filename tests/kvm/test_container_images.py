"""Container images in a guest: its kernel reads of the EROFS image what the layers had."""

from __future__ import annotations

import hashlib
import os
import random
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from corral import oci
from corral.guests import initramfs
from tests.kvm.test_cli_boot import LINUX, boot
from tests.support import erofs_reader
from tests.support.container_images import Layout, folder, info, layer, link, text

GETXATTR = """\
#include <stdio.h>
#include <sys/xattr.h>
int main(int argc, char **argv)
{
	char value[4096];
	for (int i = 1; i + 1 < argc; i += 2) {
		ssize_t length = lgetxattr(argv[i], argv[i + 1], value, sizeof(value));
		for (ssize_t at = 0; at < length; at++)
			printf("%02x", (unsigned char)value[at]);
		puts(length < 0 ? "none" : "");
	}
	return 0;
}
"""
LOOK = r"""
mkdir /m && mount -t erofs -o ro /dev/vda /m && cd /m || exit 1
find . -print0 | sort -z | xargs -0 stat -c '%n|%f|%u|%g|%Y|%h|%t:%T|%s'
echo ---
find . -type f -print0 | sort -z | xargs -0 sha256sum
echo ---
find . -type l -print0 | sort -z | xargs -0 -n 1 readlink
"""
ATTRIBUTES = """
modprobe erofs && mkdir /m && mount -t erofs -o ro /dev/vdb /m && cd /m || exit 1
./getxattr ./getxattr user.colour ./getxattr security.capability ./dir system.posix_acl_default ./dir user.none
"""
ACL = b"\2\0\0\0\1\0\7\0\xff\xff\xff\xff\4\0\5\0\xff\xff\xff\xff\x20\0\5\0\xff\xff\xff\xff"
CAPABILITY = b"\1\0\0\2\0\x20\0\0" + bytes(12)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def prepared(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> oci.Image:
    """In a cache of its own; the guest's kernel is in the user's."""
    with monkeypatch.context() as own:
        own.setenv("XDG_CACHE_HOME", str(layout.path.parent / "cache"))
        return oci.prepare(f"oci:{layout.path}")


def looked(image: oci.Image, script: str, system: str = "") -> list[list[str]]:
    done = boot(*system.split(), "--disk", f"{image.root},ro", "--", script, timeout=LINUX)
    assert done.returncode == 0, done.stdout + done.stderr
    return [part.splitlines() for part in done.stdout.decode().split("---\n")]


def program(tmp_path: Path) -> bytes:
    source = tmp_path / "getxattr.c"
    source.write_text(GETXATTR)
    subprocess.run(["gcc", "-static", "-Os", "-s", "-o", str(tmp_path / "getxattr"), str(source)], check=True)
    return (tmp_path / "getxattr").read_bytes()


def _line(name: str, file: erofs_reader.File) -> str:
    """As stat(1) has it with LOOK's format."""
    number = file.device if stat.S_ISCHR(file.mode) or stat.S_ISBLK(file.mode) else 0
    device = f"{number >> 8 & 0xFFF:x}:{number & 0xFF | number >> 12 & ~0xFF:x}"
    values = (name, f"{file.mode:x}", file.uid, file.gid, file.mtime, file.links, device, len(file.data))
    return "|".join(map(str, values))


def test_a_guest_reads_what_the_layers_have(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(22)
    lower = [
        (info("dir", tarfile.DIRTYPE, mode=0o2770, uid=70_000, gid=5), b""),
        (info("null", tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3), b""),
        (info("disk", tarfile.BLKTYPE, mode=0o660, devmajor=254, devminor=700), b""),
        (info("pipe", tarfile.FIFOTYPE), b""),
        (info("huge"), chance.randbytes(3 << 20)),
        link("short", "dir"),
        link("long", "x" * 4000),
    ]
    for number in range(400):
        size = chance.choice([0, 1, 100, 4000, 4032, 4033, 4095, 4096, 4097, 8192, 20_000])
        name = f"many/{'n' * chance.randrange(150)} {number}"
        lower.append((info(name, mtime=number, uid=number, mode=0o600 + number % 64), chance.randbytes(size)))
    lower += [link(f"many/hard {number}", "huge", hard=True) for number in range(5)]
    upper = [text("many/.wh.hard 3"), text("dir/new", "new"), folder("empty")]
    layout.add(layout.image([layer(*lower), layer(*upper)]))
    image = prepared(layout, monkeypatch)
    files = {f".{name}": file for name, file in erofs_reader.read(image.root).items()}
    assert len(files) > 410
    seen, sums, targets = looked(image, LOOK)
    names = sorted(files)
    assert seen == [_line(name, files[name]) for name in names]
    regular = [name for name in names if stat.S_ISREG(files[name].mode)]
    assert sums == [f"{hashlib.sha256(files[name].data).hexdigest()}  {name}" for name in regular]
    assert targets == [files[name].data.decode() for name in names if stat.S_ISLNK(files[name].mode)]
    data = {info_.name: content for info_, content in lower if info_.isreg()}
    assert all(files[f"./{name}"].data == content for name, content in data.items())


@pytest.mark.long
def test_a_guest_reads_attributes(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's kernel: the small one has none in EROFS."""
    attributes = {
        "SCHILY.xattr.user.colour": "dark blue",
        "SCHILY.xattr.security.capability": CAPABILITY.decode(),
    }
    default = {"SCHILY.xattr.system.posix_acl_default": os.fsdecode(ACL)}
    program_ = info("getxattr", mode=0o755, pax_headers=attributes), program(tmp_path)
    layout.add(layout.image([layer(program_, (info("dir", tarfile.DIRTYPE, pax_headers=default), b""))]))
    values = [b"dark blue".hex(), CAPABILITY.hex(), ACL.hex(), "none"]
    assert looked(prepared(layout, monkeypatch), ATTRIBUTES, "debian") == [values]


def test_a_system_of_packages_runs_from_it(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Busybox from its package as a root under an overlay, which programs write to."""
    files = [folder("bin"), (info("bin/busybox", mode=0o755), initramfs.busybox()), folder("tmp"), folder("proc")]
    files += [link(f"bin/{name}", "busybox") for name in ("sh", "cat", "echo", "ls")]
    layout.add(layout.image([layer(*files, text("etc/motd", "from the image\n")), layer(text("etc/motd", "newer\n"))]))
    script = """
mkdir -p /i /w /r && mount -t erofs -o ro /dev/vda /i && mount -t tmpfs none /w && mkdir /w/u /w/w &&
mount -t overlay -o lowerdir=/i,upperdir=/w/u,workdir=/w/w none /r &&
chroot /r /bin/sh -c 'cat /etc/motd && echo written >/etc/motd && cat /etc/motd'; cat /i/etc/motd"""
    assert looked(prepared(layout, monkeypatch), script) == [["newer", "written", "newer"]]
