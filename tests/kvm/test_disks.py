"""Disks as a person uses them: the small Linux on this KVM, with virtio-blk, ext4 and the tools of both sides."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from corral.guests.parameters import for_command
from tests.kvm.test_cli_boot import LINUX, boot, start
from tests.support import file_systems, kernels, root_image


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return root_image.make(tmp_path_factory.mktemp("images") / "root.img")


@pytest.fixture
def image(pristine: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "root.img"
    subprocess.run(["cp", "--sparse=always", str(pristine), str(copy)], check=True)
    return copy


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_root_file_system_keeps_what_the_guest_writes(image: Path) -> None:
    line = "echo kept > /kept && cp /bin/busybox /copy && sha256sum /copy > /sum && exit 7"
    done = boot("--disk", str(image), "--append", for_command([line]), timeout=LINUX)
    assert done.returncode == 7, done.stdout + done.stderr
    root_image.check(image)
    assert root_image.content(image, "/kept") == b"kept\n"
    copy = root_image.content(image, "/copy")
    assert len(copy) > 1 << 20
    assert copy == root_image.content(image, "/bin/busybox")
    assert root_image.content(image, "/sum").split()[0].decode() == hashlib.sha256(copy).hexdigest()


def test_a_snapshot_is_written_to_and_gone(image: Path) -> None:
    before = digest(image)
    line = "echo gone > /gone && sync && echo 3 > /proc/sys/vm/drop_caches && grep -q gone /gone && exit 8"
    done = boot("--disk", f"{image},snapshot=on", "--append", for_command([line]), timeout=LINUX)
    assert done.returncode == 8, done.stdout + done.stderr
    assert digest(image) == before


def test_several_disks_in_order_one_of_them_only_to_be_read(tmp_path: Path) -> None:
    disks = []
    for index, size in enumerate((1 << 20, 2 << 20, 3 << 20)):
        path = tmp_path / f"{index}.img"
        path.write_bytes(bytes([index]) * size)
        disks += ["--disk", f"{path},ro" if index == 1 else str(path)]
    line = (
        "grep vd /proc/partitions; for d in a b c; do echo data | dd of=/dev/vd$d conv=fsync && echo $d written; done;"
        "dd if=/dev/vdc bs=1k count=1 skip=2047 | od -An -tx1 -N4"
    )
    done = boot(*disks, "--", line, timeout=LINUX)
    words = done.stdout.split()
    assert [words[words.index(name) - 1] for name in (b"vda", b"vdb", b"vdc")] == [b"1024", b"2048", b"3072"]
    assert b"a written" in done.stdout
    assert b"b written" not in done.stdout
    assert b"02 02 02 02" in done.stdout
    assert (tmp_path / "0.img").read_bytes()[:6] == b"data\n\0"
    assert digest(tmp_path / "1.img") == hashlib.sha256(b"\1" * (2 << 20)).hexdigest()


def test_an_image_in_two_guests_is_refused_and_free_again_after_the_first(image: Path) -> None:
    first = start("spin", "--disk", str(image), stdout=subprocess.PIPE)
    assert first.stdout is not None
    first.stdout.read(1)
    second = boot("--disk", str(image))
    first.kill()
    first.wait()
    assert (second.returncode, second.stderr.count(b"\n")) == (2, 1)
    assert b"in use by another guest" in second.stderr
    third = boot("/nowhere", "--disk", str(image))
    assert b"in use" not in third.stderr


def test_a_rate_limit_holds_and_the_counters_tell(tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(1 << 20))
    line = (
        "read before rest < /proc/uptime; dd if=/dev/vda of=/dev/null bs=4k count=250 iflag=direct;"
        "read after rest < /proc/uptime; echo from $before to $after"
    )
    disk = f"{tmp_path / 'disk.img'},ops=100,id=slow"
    done = boot("--stats", "--disk", disk, "--", line, timeout=LINUX)
    words = done.stdout.split()
    before, after = (float(words[words.index(name) + 1]) for name in (b"from", b"to"))
    # A bucket holds a tenth of a second's worth.
    assert after - before >= 2.3
    told = [row.split() for row in done.stderr.decode().splitlines()]
    header = next(row for row in told if row[:2] == ["disk", "queue"])
    row = next(row for row in told if row[:2] == ["slow", "0"])
    assert int(row[header.index("reads")]) >= 250
    assert [row[header.index(name)] for name in ("writes", "errors")] == ["0", "0"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--disk", "/nowhere/disk.img"], b"No such file"),
        (["--disk", "/"], b"directory"),
        (["--disk", "x,cache=fast"], b"cache=fast"),
        (["--disk", "x", "--root", "3"], b"--root 3"),
        (["--disk", "x", "--root", "0", "--", "true"], b"leave --root"),
    ],
)
def test_disks_that_cannot_be(words: list[str], message: bytes) -> None:
    done = boot(*words)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert message in done.stderr


def test_a_disk_boots_the_kernel_that_is_on_it(tmp_path: Path) -> None:
    """A kernel in miniature, which prints its command line, on the second partition of the disk."""
    files = {
        "sbin/init": b"init",
        "boot/vmlinuz-6": kernels.bzimage(kernels.payload(kernels.vmlinux())),
        "boot/initrd.img-6": kernels.cpio(),
    }
    path = file_systems.disk(
        tmp_path / "disk",
        (file_systems.EFI, bytes(1 << 20)),
        (file_systems.LINUX, file_systems.ext4(4 << 20, tmp_path, files)),
    )
    done = boot("--disk", path, "--kernel", "image", env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert done.returncode == 0, done.stderr
    assert b" root=/dev/vda2 rw rootfstype=ext4 rootwait" in done.stdout
    assert done.stdout.endswith(b"070701"), "the initramfs beside it"
    assert b"vmlinuz-6, the disk's own kernel" in done.stderr


def test_a_partition_is_the_root_of_the_small_kernel(image: Path, tmp_path: Path) -> None:
    path = root_image.partitioned(tmp_path / "disk", image)
    done = boot("--disk", str(path), "--append", for_command(["grep ' / ' /proc/mounts; exit 9"]), timeout=LINUX)
    assert done.returncode == 9, done.stdout + done.stderr
    assert b"ext4" in done.stdout


@pytest.mark.parametrize("words", [("debian",), (), ("host",)])
def test_a_disk_that_is_not_there_is_told_before_anything_is_made(words: tuple[str, ...], tmp_path: Path) -> None:
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = boot(*words, "--disk", "/nowhere/disk.img", env=env, timeout=10)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert b"/nowhere/disk.img" in done.stderr
    kept = {path.name for path in (tmp_path / "cache").glob("corral/*")}
    assert kept <= {f"supervisor-{os.geteuid()}"}  # how this KVM runs kernels, which is looked at first
