"""From an archive to a file system with everything that only root could have made; and archives that are not meant
well."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.errors import BootError, ConfigError
from corral.images.build import from_tar
from tests.support.cost import CORRAL, cost
from tests.unit.images.conftest import Image
from tests.unit.images.test_tar import info, pack, summed

MIB = 1 << 20
Files = list[tuple[tarfile.TarInfo, bytes]]


def make(image: Image, *files: tuple[tarfile.TarInfo, bytes], size: int | None = 32 * MIB) -> None:
    archive = image.path.parent.parent / "archive.tar"
    archive.write_bytes(pack(*files))
    from_tar(str(archive), str(image.path), size, lambda text: None)
    assert os.listdir(image.path.parent) == [image.path.name]
    assert image.is_sound()


def refused(image: Image, *files: tuple[tarfile.TarInfo, bytes], size: int | None = 32 * MIB) -> str:
    with pytest.raises((BootError, ConfigError)) as caught:
        make(image, *files, size=size)
    assert os.listdir(image.path.parent) == []
    text = str(caught.value)
    assert text.isprintable()
    return text


def test_what_only_root_could_make(image: Image) -> None:
    attribute = {"SCHILY.xattr.user.colour": "dark blue", "SCHILY.xattr.security.capability": "\1\0\0\2" + "\0" * 16}
    make(
        image,
        (info("./", tarfile.DIRTYPE, mode=0o750, uid=5, gid=6, mtime=1_500_000_000), b""),
        (info("bin/su", mode=0o4755, mtime=1_600_000_000, pax_headers=attribute), b"program" * 10_000),
        (info("etc/shadow", mode=0, gid=42), b"secret"),
        (info("home/me", tarfile.DIRTYPE, mode=0o2700, uid=100_000, gid=70_000, mtime=1_400_000_000), b""),
        (info("home/me/empty", uid=100_000, mode=0o600), b""),
        (info("bin/sudo", tarfile.LNKTYPE, linkname="bin/su"), b""),
        (info("lib", tarfile.SYMTYPE, linkname="/usr/lib", uid=7), b""),
        (info("far", tarfile.SYMTYPE, linkname="x" * 3000), b""),
        (info("dev/null", tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3, mtime=1_300_000_000), b""),
        (info("dev/zero", tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=5), b""),
        (info("dev/vda", tarfile.BLKTYPE, mode=0o660, gid=6, devmajor=254, devminor=700, pax_headers=attribute), b""),
        (info("dev/same", tarfile.LNKTYPE, linkname="dev/vda"), b""),
        (info("run/pipe", tarfile.FIFOTYPE, mode=0o622, uid=33), b""),
    )
    assert image.names() == {"bin", "etc", "home", "lib", "far", "dev", "run"}
    root, su, sudo = image.stat("/"), image.stat("/bin/su"), image.stat("/bin/sudo")
    assert (root["mode"], root["uid"], root["gid"]) == ("040750", "5", "6")
    assert root["mtime"].startswith(hex(1_500_000_000))
    assert (su["mode"], su["inode"]) == ("104755", sudo["inode"])
    assert su["mtime"].startswith(hex(1_600_000_000))
    assert su["atime"].startswith(hex(1_600_000_000))
    assert "dark blue" in image.ask("ea_get /bin/su user.colour")
    assert "01 00 00 02" in image.ask("ea_get -x /bin/su security.capability") + image.ask(
        "ea_get /bin/su security.capability"
    )
    assert image.content("/bin/su") == b"program" * 10_000
    assert image.content("/etc/shadow") == b"secret"
    assert (image.stat("/etc/shadow")["mode"], image.stat("/etc/shadow")["gid"]) == ("100000", "42")
    home = image.stat("/home/me")
    assert (home["mode"], home["uid"], home["gid"]) == ("042700", "100000", "70000")
    assert home["mtime"].startswith(hex(1_400_000_000))
    assert (image.stat("/home")["mode"], image.stat("/home")["uid"]) == ("040755", "0")
    assert (image.stat("/lib")["mode"], image.stat("/lib")["uid"]) == ("120777", "7")
    assert '"/usr/lib"' in image.ask("stat /lib")
    assert image.content("/far") == b"x" * 3000
    null, disk = image.ask("stat /dev/null"), image.ask("stat /dev/vda")
    assert "character special" in null
    assert "01:03" in null
    assert "block special" in disk
    assert "254:700" in disk
    assert image.stat("/dev/null")["mode"] == "020666"
    assert image.stat("/dev/null")["mtime"].startswith(hex(1_300_000_000))
    assert image.stat("/dev/vda")["gid"] == "6"
    assert "dark blue" in image.ask("ea_get /dev/vda user.colour")
    assert "254:700" in image.ask("stat /dev/same")
    assert (image.stat("/run/pipe")["mode"], image.stat("/run/pipe")["uid"]) == ("010622", "33")


def test_names_that_are_hard_to_write(image: Image) -> None:
    names = ['a"b', "two  words", "new\nline", "<2>", "-f", "ü", "\udcff", "#", "x" * 255]
    devices = ['d"b', "d two  words", "<3>", "-d", "ö", "#d", "'"]
    make(
        image,
        *((info(name, uid=9), name.encode(errors="surrogateescape")) for name in names),
        *((info(f"./{name}", tarfile.CHRTYPE, devmajor=9, devminor=9, uid=9), b"") for name in devices),
    )
    listed = image.ask("ls -p /")
    assert listed.count("/9/0/") == len(names + devices)
    assert all(f"/{name}/" in listed for name in names + devices)


def test_folders_that_grow_with_devices(image: Image) -> None:
    devices = [(info(f"dev/{'tty' * 20}{n}", tarfile.CHRTYPE, devmajor=4, devminor=n), b"") for n in range(300)]
    make(image, *devices)
    assert len(image.names("/dev")) == 300


def test_what_comes_later_counts(image: Image) -> None:
    make(
        image,
        (info("folder/", tarfile.DIRTYPE, mode=0o700), b""),
        (info("folder/file"), b"first"),
        (info("other", tarfile.LNKTYPE, linkname="folder/file"), b""),
        (info("folder/file"), b"second"),
        (info("folder/", tarfile.DIRTYPE, mode=0o711), b""),
        (info("thing", tarfile.SYMTYPE, linkname="/etc"), b""),
        (info("thing/", tarfile.DIRTYPE), b""),
        (info("thing/inside"), b"in the image"),
        (info("was-folder/", tarfile.DIRTYPE), b""),
        (info("was-folder"), b"file"),
        (info("self"), b"self"),
        (info("self", tarfile.LNKTYPE, linkname="self"), b""),
        (info("null", tarfile.CHRTYPE, devmajor=1, devminor=3), b""),
        (info("null"), b"a file now"),
    )
    assert image.content("/folder/file") == b"second"
    assert image.content("/other") == b"first"
    assert image.stat("/folder")["mode"] == "040711"
    assert image.content("/thing/inside") == b"in the image"
    assert image.content("/was-folder") == b"file"
    assert image.content("/self") == b"self"
    assert image.content("/null") == b"a file now"


def test_an_absolute_path_begins_at_the_root_of_the_image(image: Image) -> None:
    make(image, (info("/etc/corral-test"), b"here"), (info("//tmp/./x"), b"there"))
    assert image.content("/etc/corral-test") == b"here"
    assert image.content("/tmp/x") == b"there"
    assert not Path("/etc/corral-test").exists()


def test_lost_and_found_may_be_in_the_archive(image: Image) -> None:
    make(image, (info("lost+found/", tarfile.DIRTYPE, mode=0o700), b""), (info("lost+found/thing"), b"found"))
    assert image.content("/lost+found/thing") == b"found"


def test_an_archive_of_nothing(image: Image) -> None:
    make(image)
    assert image.names() == set()


@pytest.mark.long
def test_the_size_is_found_and_leaves_room(image: Image) -> None:
    make(image, *((info(f"{n}"), os.urandom(100)) for n in range(6000)), (info("big"), os.urandom(20 * MIB)), size=None)
    assert 200 * MIB < image.path.stat().st_size < 600 * MIB
    assert image.path.stat().st_blocks * 512 < 80 * MIB
    assert len(image.names()) == 6001


def test_sparse_files_stay_sparse(image: Image, tmp_path: Path) -> None:
    make(image, (info("zeros"), bytes(16 * MIB)), size=64 * MIB)
    assert image.path.stat().st_blocks * 512 < 24 * MIB


HOSTILE: dict[str, Files] = {
    "a path out of the image": [(info("../../etc/passwd"), b"")],
    "a path out of a folder": [(info("a/../../b"), b"")],
    "a file below a symbolic link": [(info("a", tarfile.SYMTYPE, linkname="/tmp"), b""), (info("a/b"), b"")],
    "a file below a file": [(info("a"), b""), (info("a/b"), b"")],
    "a link through a symbolic link": [
        (info("a", tarfile.SYMTYPE, linkname="/etc"), b""),
        (info("b", tarfile.LNKTYPE, linkname="a/passwd"), b""),
    ],
    "a link out of the image": [(info("b", tarfile.LNKTYPE, linkname="../../../etc/passwd"), b"")],
    "a link to what is not there": [(info("b", tarfile.LNKTYPE, linkname="/etc/passwd"), b"")],
    "a link to a folder": [(info("a/b"), b""), (info("c", tarfile.LNKTYPE, linkname="a"), b"")],
    "a file for a full folder": [(info("a/b"), b""), (info("a"), b"")],
    "a file for the root": [(info("."), b"")],
    "a long name": [(info("n" * 256), b"")],
    "a deep one": [(info("a/" * 300 + "b"), b"")],
    "a link to nowhere": [(info("a", tarfile.SYMTYPE, linkname=""), b"")],
    "a long link": [(info("a", tarfile.SYMTYPE, linkname="x" * 5000), b"")],
    "a device in two lines": [(info("a\nb", tarfile.CHRTYPE), b"")],
    "an attribute in two lines": [(info("a", pax_headers={"SCHILY.xattr.user.a\nrm /": "b"}), b"")],
    "a large attribute": [(info("a", pax_headers={"SCHILY.xattr.user.a": "b" * 5000}), b"")],
    "more than the size": [(info(f"{n}"), bytes(8 * MIB)) for n in range(5)],
    "more files than the size": [(info(f"{n}"), b"x") for n in range(9000)],
    "a name that moves the cursor": [(info("\x1b[2J/.."), b"")],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives(name: str, image: Image) -> None:
    text = refused(image, *HOSTILE[name])
    assert "archive.tar" in text or "--size" in text


def bomb(path: Path, *pieces: bytes, times: int) -> None:
    """The pieces again and again, packed."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(times):
            file.write(b"".join(pieces))
        file.write(info("last").tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def header(kind: bytes, content: bytes) -> bytes:
    member = info("h", kind)
    member.size = len(content)
    return member.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def record(key: bytes, size: int) -> bytes:
    start = b"%07d %s=" % (size, key)
    return start + b"v" * (size - len(start) - 1) + b"\n"


LARGE = (1 << 20) - 512
BOMBS: dict[str, tuple[list[bytes], int, str]] = {
    "global headers": ([header(b"g", record(b"k%d" % n, LARGE)) for n in range(64)], 1, "bytes of headers for 0 files"),
    "pax headers": ([header(b"x", record(b"k", LARGE))], 20, "bytes of headers for 0 files"),
    "long names": ([header(b"L", b"n" * LARGE)], 20, "bytes of headers for 0 files"),
    "global records": (
        [header(b"g", b"".join(b"20 key%05d=xxxxxxx\n" % n for n in range(1001)))],
        1,
        "more than 1000 global pax records",
    ),
    "small records": ([header(b"x", b"6 a=b\n" * 10_000)], 20, "pax records for 0 files"),
    "headers of nothing": ([header(b"V", b"")], 20_000, "headers for 0 files"),
    "data of no file": ([header(b"D", bytes(8 << 20))], 10, "belong to no file"),
}


@pytest.mark.parametrize("what", BOMBS)
def test_bombs_of_headers_are_refused_while_they_are_small(what: str, image: Image, tmp_path: Path) -> None:
    pieces, times, why = BOMBS[what]
    archive = tmp_path / "archive.tgz"
    bomb(archive, *pieces, times=times)
    found = cost(*CORRAL, "image", "from-tar", str(archive), str(image.path), "--size", "16M")
    assert found.status == 2
    assert why in found.output
    assert "Traceback" not in found.output
    assert found.mebibytes < 256
    assert found.seconds < 2 + 2  # and what a busy machine makes of it
    assert os.listdir(image.path.parent) == []


def test_a_small_archive_has_no_million_of_files(image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral.images.tree._NODES", 1000)
    archive = tmp_path / "archive.tgz"
    bomb(archive, header(b"0", b""), times=3000)
    with pytest.raises(BootError, match=r"comes after 1[0-9]{3} others, more than Corral takes"):
        from_tar(str(archive), str(image.path), 32 * MIB, lambda text: None)


def test_attributes_that_linux_has_no_place_for_are_told_of(image: Image, tmp_path: Path) -> None:
    schily = "SCHILY.xattr."
    odd = ("com.apple.quarantine", "colour", "user", "user.", "security.", "system.data", "system.posix_acl_access")
    kept = ("user.a b", "user.ü", "trusted.x", "security.capability", "user." + "n" * 250)
    others = {
        "LIBARCHIVE.xattr.user.b": "dg",
        schily + "user.b": "v",
        "LIBARCHIVE.xattr.user.c": "dg",
        "RHT.security.selinux": "x",
        "SCHILY.acl.access": "user::rw-",
    }
    archive = tmp_path / "archive.tar"
    archive.write_bytes(
        pack(
            (info("odd", pax_headers={schily + name: "v" for name in odd}), b""),
            (info("kept", pax_headers={schily + name: "v" for name in kept}), b""),
            (info("others", pax_headers=others), b""),
        )
    )
    (told,) = from_tar(str(archive), str(image.path), 16 * MIB, lambda text: None)
    assert told.endswith(f"were left out: {len(odd) + 3}, like com.apple.quarantine of odd")
    assert image.is_sound()
    listed = {name: image.ask(f"ea_list /{name}").count(" = ") for name in ("odd", "kept", "others")}
    assert listed == {"odd": 0, "kept": len(kept), "others": 1}


@pytest.mark.parametrize("length", [256, 260, 265, 300, 511, 1000])
def test_attributes_with_names_that_ext4_has_no_room_for_are_refused(image: Image, length: int) -> None:
    name = "user." + "n" * (length - 5)
    assert "more than 255 bytes" in refused(image, (info("a", pax_headers={f"SCHILY.xattr.{name}": "v"}), b""))


def test_a_bomb_ends_where_the_size_does(image: Image, tmp_path: Path) -> None:
    archive = tmp_path / "archive.tgz"
    member = info("zeros")
    member.size = 8 << 30
    with gzip.open(archive, "wb", compresslevel=1) as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):
            file.write(bytes(MIB))
    tracemalloc.start()
    with pytest.raises(BootError, match="--size"):
        from_tar(str(archive), str(image.path), 32 * MIB, lambda text: None)
    assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    tracemalloc.stop()
    assert os.listdir(image.path.parent) == []


def test_without_a_size_the_space_there_is_the_limit(image: Image, tmp_path: Path) -> None:
    member = info("zeros")
    member.size = 1 << 43
    archive = tmp_path / "archive.tar"
    archive.write_bytes(member.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(BootError, match="half of what is free"):
        from_tar(str(archive), str(image.path), None, lambda text: None)


def test_an_image_that_exists_stays(image: Image, tmp_path: Path) -> None:
    image.path.write_bytes(b"precious")
    archive = tmp_path / "archive.tar"
    archive.write_bytes(pack((info("a"), b"")))
    with pytest.raises(ConfigError, match="exists"):
        from_tar(str(archive), str(image.path), None, lambda text: None)
    assert image.path.read_bytes() == b"precious"


def test_one_that_comes_meanwhile_stays_too(image: Image, tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar"
    archive.write_bytes(pack((info("a"), b"")))
    with pytest.raises(ConfigError, match="exists"):
        from_tar(str(archive), str(image.path), None, lambda text: bool(image.path.write_bytes(b"precious")) and None)
    assert image.path.read_bytes() == b"precious"
    assert os.listdir(image.path.parent) == [image.path.name]


def test_a_folder_of_links_as_it_is_on_this_host(image: Image) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        tar.add("/etc/alternatives", "etc/alternatives")
    archive = image.path.parent.parent / "archive.tar.gz"
    archive.write_bytes(out.getvalue())
    from_tar(str(archive), str(image.path), None, lambda text: None)
    assert image.is_sound()
    assert image.names("/etc/alternatives") == set(os.listdir("/etc/alternatives"))


SAMPLE = pack(
    (info("./", tarfile.DIRTYPE), b""),
    (info("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3), b""),
    (info("a/b", uid=1 << 31, pax_headers={"SCHILY.xattr.user.a": "b"}), b"data" * 200),
    (info("a/c", tarfile.LNKTYPE, linkname="a/b"), b""),
    (info("link", tarfile.SYMTYPE, linkname="a"), b""),
    (info("pipe", tarfile.FIFOTYPE), b""),
)
HEADERS = [at for at in range(0, len(SAMPLE), 512) if SAMPLE[at + 257 : at + 262] == b"ustar"]
FIELDS = [0, 1, 2, 100, 107, 108, 115, 116, 124, 134, 136, 156, 157, 158, 329, 334, 337, 345]
VALUES = [b"\0", b"/", b"..", b"7777", b'"', b"\n", b"\x80\xff", *(bytes([kind]) for kind in b"0123456SxgLKD")]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(
        st.tuples(st.sampled_from(HEADERS), st.sampled_from(FIELDS), st.sampled_from(VALUES)), min_size=1, max_size=3
    )
)
def test_a_damaged_archive_ends_in_a_sound_image_or_in_one_line(
    image: Image, changes: list[tuple[int, int, bytes]]
) -> None:
    data = bytearray(SAMPLE)
    for at, field, value in changes:
        data[at + field : at + field + len(value)] = value
    with tempfile.TemporaryDirectory() as folder:
        archive, made = Path(folder, "archive.tar"), Path(folder, "disk.img")
        archive.write_bytes(summed(data))
        try:
            from_tar(str(archive), str(made), 16 * MIB, lambda text: None)
        except (BootError, ConfigError) as error:
            refusal = str(error)
        else:
            assert Image(made).is_sound()
            return
        assert refusal.isprintable()
        assert os.listdir(folder) == ["archive.tar"]
