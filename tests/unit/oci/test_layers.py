"""Layers over each other, and what comes of them in the file system."""

from __future__ import annotations

import io
import os
import stat
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.errors import BootError
from corral.files.file import Flaw
from corral.images.erofs import Writer
from corral.oci.layers import Layers
from tests.support.container_images import folder, info, layer, link, text
from tests.unit.oci.conftest import Built

CAPABILITY = "\1\0\0\2\0\4\0\0" + "\0" * 12


def test_everything_that_a_file_has(built: Built) -> None:
    attributes = {"SCHILY.xattr.user.colour": "dark blue", "SCHILY.xattr.security.capability": CAPABILITY}
    files = built(
        layer(
            (info("./", tarfile.DIRTYPE, mode=0o750, uid=5, gid=6, mtime=1_500_000_000), b""),
            (info("bin/su", mode=0o4755, mtime=1_600_000_000, pax_headers=attributes), b"program" * 10_000),
            (info("etc/shadow", mode=0, uid=100_000, gid=70_000), b"secret"),
            link("bin/sudo", "bin/su", hard=True),
            link("lib", "/usr/lib"),
            link("far", "x" * 4095),
            (info("dev/null", tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3), b""),
            (info("dev/vda", tarfile.BLKTYPE, mode=0o660, devmajor=254, devminor=700), b""),
            (info("run/pipe", tarfile.FIFOTYPE, mode=0o622, uid=33), b""),
            text("empty"),
            (info("block"), b"b" * 4096),
            (info("tail"), b"t" * (2 * 4096 + 1)),
            (info("long tail"), b"l" * (4096 + 4090)),
        )
    )
    root, su, shadow = files[""], files["/bin/su"], files["/etc/shadow"]
    assert (root.mode, root.uid, root.gid, root.mtime) == (0o40750, 5, 6, 1_500_000_000)
    assert root.links == 2 + 4
    assert (su.mode, su.mtime, su.links, su.data) == (0o104755, 1_600_000_000, 2, b"program" * 10_000)
    assert su.xattrs == {"user.colour": b"dark blue", "security.capability": CAPABILITY.encode()}
    assert files["/bin/sudo"].nid == su.nid
    assert (shadow.mode, shadow.uid, shadow.gid, shadow.data) == (0o100000, 100_000, 70_000, b"secret")
    assert (files["/lib"].mode, files["/lib"].data) == (0o120777, b"/usr/lib")
    assert files["/far"].data == b"x" * 4095
    assert (files["/dev/null"].mode, files["/dev/null"].device) == (0o20666, 0x103)
    assert (files["/dev/vda"].mode, files["/dev/vda"].device) == (
        0o60660,
        254 << 8 | (700 & 0xFF) | (700 & ~0xFF) << 12,
    )
    assert (files["/run/pipe"].mode, files["/run/pipe"].uid) == (0o10622, 33)
    assert files["/empty"].data == b""
    assert files["/block"].data == b"b" * 4096
    assert files["/tail"].data == b"t" * 8193
    assert files["/long tail"].data == b"l" * 8186


def test_what_a_higher_layer_has_counts(built: Built) -> None:
    files = built(
        layer(folder("etc", mode=0o700), text("etc/a", "old"), text("file", "f"), folder("dir"), text("dir/x", "x")),
        layer(folder("etc", mode=0o755), text("etc/a", "new"), folder("file"), text("file/x", "b"), text("dir", "d")),
    )
    assert files["/etc"].mode == 0o40755
    assert files["/etc/a"].data == b"new"
    assert files["/file/x"].data == b"b"
    assert files["/dir"].data == b"d"
    assert "/dir/x" not in files


def test_names_that_remove(built: Built) -> None:
    files = built(
        layer(text("a/one"), text("a/two"), text("b/three"), text("b/deep/four"), text("c"), text("d/x")),
        layer(
            text("a/.wh.one"),
            text("b/new"),
            text("b/.wh..wh..opq"),
            text("b/deep/newer"),
            text(".wh.c"),
            text("c", "again"),
            folder("d"),
            text("d/y"),
            text(".wh.d"),
            text("no/.wh.such"),
            text("a/.wh..wh.plnk"),
            text(".wh.nothing"),
        ),
    )
    assert sorted(files) == ["", "/a", "/a/two", "/b", "/b/deep", "/b/deep/newer", "/b/new", "/c", "/d", "/d/y"]
    assert files["/c"].data == b"again"


def test_an_opaque_folder_is_so_wherever_that_stands(built: Built) -> None:
    lower = layer(text("f/a"), text("f/sub/b"))
    for number, files in enumerate(
        (
            (text("f/.wh..wh..opq"), text("f/sub/c")),
            (text("f/sub/c"), text("f/.wh..wh..opq")),
        )
    ):
        upper = layer(*files, text(f"other{number}"))
        assert sorted(built(lower, upper) if not number else _again(lower, upper)) == sorted(
            ["", "/f", "/f/sub", "/f/sub/c", f"/other{number}"]
        )


def _again(*layers: bytes) -> list[str]:
    import tempfile
    from pathlib import Path

    from tests.support import erofs_reader

    with tempfile.NamedTemporaryFile() as file:
        apply(file.fileno(), layers)
        return list(erofs_reader.read(Path(file.name)))


def apply(fd: int, layers: tuple[bytes, ...], limit: int = 1 << 30) -> Layers:
    from corral.files.stream import Stream
    from corral.files.tar import Archive

    tree = Layers(Writer(fd, limit, "too large"))
    for data in layers:
        archive = Archive(Stream(iter([data])))
        tree.take((member, archive.data(member)) for member in archive)
    tree.finish()
    return tree


def test_a_link_is_followed_within_the_image(built: Built) -> None:
    files = built(
        layer(
            folder("usr/lib"), link("lib", "usr/lib"), link("etc", "/../../../conf"), folder("conf"), link("up", "..")
        ),
        layer(text("lib/x.so", "so"), text("etc/passwd", "p"), text("up/up/top", "t")),
    )
    assert files["/usr/lib/x.so"].data == b"so"
    assert files["/conf/passwd"].data == b"p"
    assert files["/top"].data == b"t"
    assert stat.S_ISLNK(files["/lib"].mode)


def test_a_file_that_goes_leaves_its_room_to_others(built: Built) -> None:
    first = b"1" * (1 << 20)
    files = built(
        layer((info("big"), first), text("small", "s")),
        layer((info("big"), b"2" * (1 << 20)), (info("next"), b"3" * ((1 << 20) - 4095))),
        layer((info("big"), b"4" * 5000)),
    )
    assert files["/big"].data == b"4" * 5000
    assert files["/next"].data == b"3" * ((1 << 20) - 4095)


def test_holes_are_zeros_where_another_file_was() -> None:
    import tempfile
    from pathlib import Path

    from tests.support import erofs_reader

    out = io.BytesIO()
    hole = {"GNU.sparse.map": "4096,10,20480,10", "GNU.sparse.size": "40000", "GNU.sparse.numblocks": "2"}
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = info("sparse", pax_headers=hole)
        member.size = 20
        tar.addfile(member, io.BytesIO(b"a" * 10 + b"b" * 10))
    stale = layer((info("old"), b"#" * 200_000))
    with tempfile.NamedTemporaryFile() as file:
        apply(file.fileno(), (stale, layer(text(".wh.old")), out.getvalue()))
        data = erofs_reader.read(Path(file.name))["/sparse"].data
    assert data == bytes(4096) + b"a" * 10 + bytes(20480 - 4106) + b"b" * 10 + bytes(40000 - 20490)


def test_a_folder_of_many_names(built: Built) -> None:
    names = [f"d/{'n' * (n % 200)}{n}" for n in range(5000)]
    files = built(layer(*(text(name, name) for name in names)))
    assert len(files) == 5002
    assert all(files[f"/{name}"].data == name.encode() for name in names)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ([text("../out")], r"\.\. in its path"),
        ([text("a/../../out")], r"\.\. in its path"),
        ([link("x", "nowhere", hard=True)], "not in the image"),
        ([folder("d"), link("x", "d", hard=True)], "is a folder"),
        ([link("x", "../../etc/passwd", hard=True)], r"\.\. in its path"),
        ([text("f"), text("f/below")], "no folder"),
        ([link("a", "b"), link("b", "a"), text("a/x")], "loop"),
        ([text("n" * 256)], "too long"),
        ([text("/".join("d" * 300))], "too deep"),
        ([text(".wh.")], "no file"),
        ([text(".wh...")], "no file"),
        ([text(".")], "root"),
        ([(info("x", tarfile.CHRTYPE, devmajor=5000, devminor=1), b"")], "device"),
        ([(info("x", pax_headers={"SCHILY.xattr.user.a": "v" * 4000}), b"")], "attribute"),
    ],
)
def test_layers_that_are_not_meant_well(
    files: list[tuple[tarfile.TarInfo, bytes]], complaint: str, built: Built
) -> None:
    with pytest.raises(BootError, match=complaint) as caught:
        built(layer(*files))
    assert str(caught.value).isprintable()


TWO_FILES = layer(text("a", "first"), text("b", "second"))
BEHIND_THEM = TWO_FILES.rindex(b"second") + 512


def test_a_layer_without_the_end_of_an_archive(built: Built) -> None:
    """As umoci writes them; the digest tells whether one is whole."""
    assert not any(TWO_FILES[BEHIND_THEM:])
    files = built(TWO_FILES[:BEHIND_THEM])
    assert {name: file.data for name, file in files.items() if name} == {"/a": b"first", "/b": b"second"}


def test_a_layer_that_ends_within_a_file(built: Built) -> None:
    with pytest.raises(BootError, match="ends too early"):
        built(TWO_FILES[: BEHIND_THEM - 512])


def test_attributes_for_an_overlay_are_left_out(built: Built) -> None:
    tricks = {"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.user.overlay.opaque": "y"}
    assert built(layer((info("d", tarfile.DIRTYPE, pax_headers=tricks), b"")))["/d"].xattrs == {}


def test_chains_of_links_are_bounded(tmp_path: os.PathLike[str]) -> None:
    """Each link has 39 others on its way, and a long one."""
    links = [link(f"l{n}", f"l{n + 1}/{'./' * 50}{'../' * 500}l{n + 1}") for n in range(38)]
    many = [text(f"l0/x{n}") for n in range(3000)]
    with open(os.path.join(tmp_path, "image"), "w+b") as file, pytest.raises(Flaw, match=r"loop|too long a way"):
        apply(file.fileno(), (layer(folder("l38"), *links, *many),))


def test_an_image_larger_than_the_limit(tmp_path: os.PathLike[str]) -> None:
    with open(os.path.join(tmp_path, "image"), "w+b") as file:
        with pytest.raises(Flaw, match="too large"):
            apply(file.fileno(), (layer(*((info(f"f{n}"), b"x" * 100_000) for n in range(20))),), limit=1 << 20)
        assert os.fstat(file.fileno()).st_size <= 1 << 20


NAMES = st.sampled_from([b"a", b"b", b"c", b".wh.a", b".wh.b", b".wh..wh..opq", b"\xff\n", b"a/b", b"b/a", b"c/b/a"])
FILES = st.lists(
    st.tuples(st.lists(NAMES, min_size=1, max_size=3), st.integers(0, 4), st.integers(0, 9000)), max_size=12
)


@settings(max_examples=150, deadline=None)
@given(st.lists(FILES, min_size=1, max_size=4))
def test_any_layers_make_a_file_system_or_one_line(layers: list[list[tuple[list[bytes], int, int]]]) -> None:
    import tempfile
    from pathlib import Path

    from tests.support import erofs_reader

    kinds = [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
    made = []
    for files in layers:
        members = []
        for parts, kind, size in files:
            name = os.fsdecode(b"/".join(parts))
            data = os.urandom(size) if kinds[kind] == tarfile.REGTYPE else b""
            members.append((info(name, kinds[kind], linkname="a" if size % 2 else "b/a"), data))
        made.append(layer(*members))
    with tempfile.NamedTemporaryFile() as file:
        try:
            apply(file.fileno(), tuple(made))
        except Flaw as flaw:
            text_of = str(flaw)
        else:
            text_of = ""
            found = erofs_reader.read(Path(file.name))
            assert not any("/.wh." in name for name in found)
    assert "\n" not in text_of
