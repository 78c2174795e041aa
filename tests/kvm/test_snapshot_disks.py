"""Guests that are saved with disks: what they wrote before, meanwhile and after is there, once, and nobody else's."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

import corral
from corral.errors import BootError, ConfigError, HostError
from tests.kvm.test_snapshot import changed
from tests.support import root_image
from tests.support.file_systems import ext4

LONG = 180.0
FILES = 24
# Each file is written, made stable and noted down; at the end all are read back from the disk.
WRITES = (
    f"mkdir -p /mnt; mount -t ext4 /dev/vda /mnt || exit 9; i=0; while [ $i -lt {FILES} ]; do i=$((i+1));"
    " dd if=/dev/urandom of=/mnt/f$i bs=32k count=3 conv=fsync 2>/dev/null; md5sum /mnt/f$i >>/mnt/sums; echo $i; done;"
    " sync; echo 3 >/proc/sys/vm/drop_caches; md5sum -c /mnt/sums >/tmp/sums; grep -c OK /tmp/sums; umount /mnt"
)
ALL = b"".join(b"%d\n" % (number + 1) for number in range(FILES)) + b"%d\n" % FILES


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return made_in(tmp_path)


def made_in(folder: Path) -> Path:
    path = folder / "data.img"
    path.write_bytes(ext4(24 << 20, folder))
    os.utime(path, ns=(0, 1_000_000_007))  # long ago: who writes it shows
    return path


def digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def writer(disk: str) -> Any:
    return corral.linux(WRITES, disks=disk, root="none", pipes=True)


def save_at(vm: Any, lines: int, path: Path, rest: float = 0.0) -> bytes:
    """Saves it some time after it has written so many files; returns what it had said."""
    vm.run_until(condition=lambda vm: vm.streams.output.count(b"\n") >= lines, timeout=LONG)
    vm.resume()
    time.sleep(rest)
    vm.pause()
    vm.streams.device.flush()
    while not vm.streams.device.flushed:  # what it has said by now is not said again by those that go on
        vm.streams.drain()
    vm.snapshot(str(path))
    said: bytes = vm.streams.output
    return said


def ends_well(vm: Any, before: bytes) -> None:
    outcome = vm.wait(LONG)
    assert (outcome.status, before + vm.streams.output) == (0, ALL), vm.streams.errors


def test_what_a_guest_wrote_over_an_image_goes_on_with_each(image: Path, tmp_path: Path) -> None:
    before, said = digest(image), []
    with writer(f"{image},snapshot=on") as vm:
        for number in range(3):
            said.append(save_at(vm, 2 + 6 * number, tmp_path / str(number), 0.007 * number))
        ends_well(vm, b"")
    for number, heard in enumerate(said):
        saved = tmp_path / str(number)
        with corral.restore(saved) as one, corral.restore(saved) as other:
            one.resume()
            ends_well(other, heard)
            ends_well(one, heard)
    assert digest(image) == before


def test_generations(image: Path, tmp_path: Path) -> None:
    """Each is saved from the one before; the last has what all have written."""
    before = digest(image)
    with writer(f"{image},snapshot=on") as vm:
        said = save_at(vm, 3, tmp_path / "0")
    for number in range(1, 4):
        with corral.restore(tmp_path / str(number - 1)) as vm:
            said += save_at(vm, 4, tmp_path / str(number), 0.003)
    with corral.restore(tmp_path / "3") as vm:
        ends_well(vm, said)
    assert digest(image) == before


def test_an_image_that_is_written_has_one_guest_at_a_time(image: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    with writer(str(image)) as vm:
        said = save_at(vm, 5, saved, 0.004)
    then = digest(image)
    for _ in range(2):  # beside the image, as often as wanted
        with corral.restore(saved, overlay=True) as one, corral.restore(saved, overlay=True) as other:
            ends_well(one, said)
            ends_well(other, said)
    assert digest(image) == then
    with corral.restore(saved) as vm:
        with pytest.raises(BootError, match="in use by another guest"), corral.restore(saved):
            pass
        ends_well(vm, said)
    root_image.check(image)
    sums = root_image.content(image, "/sums").decode().splitlines()
    assert len(sums) == FILES
    for line in sums:
        known, path = line.split()
        found = root_image.content(image, path.removeprefix("/mnt"))
        assert hashlib.md5(found).hexdigest() == known
    for overlay in (False, True):
        with pytest.raises(BootError, match=r"disk .*was written after its guest was saved"):
            corral.restore(saved, overlay=overlay)


def test_a_guest_that_writes_on_leaves_no_image_to_go_on_with(image: Path, tmp_path: Path) -> None:
    with writer(str(image)) as vm:
        save_at(vm, 2, tmp_path / "saved")
        vm.run_until(condition=lambda vm: vm.streams.output.count(b"\n") >= 4, timeout=LONG)
    with pytest.raises(BootError, match="was written after"):
        corral.restore(tmp_path / "saved")


def test_a_disk_that_is_full(image: Path, tmp_path: Path) -> None:
    """What was there stays, nothing else does, and the guest goes on."""
    saved, before = tmp_path / "saved", resource.getrlimit(resource.RLIMIT_FSIZE)
    with writer(f"{image},snapshot=on") as vm:
        said = save_at(vm, 2, saved)
        size = saved.stat().st_size
        vm.resume()
        time.sleep(0.1)
        vm.pause()
        layers = image.stat().st_size
        for most in (size - layers // 2, size - layers - 4096, 4096):  # in a layer, in RAM, before it
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
            try:
                with pytest.raises(HostError, match="cannot write the snapshot"):
                    vm.snapshot(str(saved))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
        ends_well(vm, b"")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("saved")] == ["saved"]
    with corral.restore(saved) as vm:
        ends_well(vm, said)


@pytest.fixture
def reader(image: Path, tmp_path: Path) -> Path:
    return saved_reader(image, tmp_path / "reader")


def saved_reader(image: Path, path: Path) -> Path:
    """A guest that has read a part of an image, and reads the rest."""
    with corral.linux("md5sum </dev/vda; read x; md5sum </dev/vda", disks=f"{image},ro", root="none", pipes=True) as vm:
        vm.run_until(condition=lambda vm: vm.streams.output.count(b"\n") == 1, timeout=LONG)
        vm.snapshot(str(path))
    return path


def reads(saved: Path, image: Path) -> None:
    with corral.restore(saved) as vm:
        vm.streams.send("go\n")
        assert vm.wait(LONG).status == 0
        assert vm.streams.output.split()[0].decode() == hashlib.md5(image.read_bytes()).hexdigest()


def test_an_image_that_is_only_read(reader: Path, image: Path, tmp_path: Path) -> None:
    reads(reader, image)
    shutil.copy2(image, tmp_path / "copy")  # with its time
    os.replace(tmp_path / "copy", image)
    reads(reader, image)


def test_another_image_is_refused(reader: Path, image: Path) -> None:
    content, then = image.read_bytes(), image.stat().st_mtime_ns
    for change, text in (
        (lambda: image.write_bytes(content), "was written after"),
        (lambda: (image.write_bytes(b"x" + content[1:]), os.utime(image, ns=(then, then))), "is another image"),
        (lambda: image.write_bytes(content + bytes(512)), f"has {len(content) + 512} bytes, and had {len(content)}"),
        (image.unlink, "No such file"),
    ):
        change()
        with pytest.raises(BootError, match=text) as error:
            corral.restore(reader)
        assert "\n" not in str(error.value)
    image.write_bytes(content)
    os.utime(image, ns=(then, then))
    reads(reader, image)


HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"size": -1}, "sizes make no sense"),
    ({"size": 1 << 63}, r"has .* bytes, and had 9223372036854775808"),
    ({"size": 512, "snapshot": True, "read_only": False}, "is cut off"),
    ({"operations": -1}, "limits of disk .* make no sense"),
    ({"path": ""}, "needs the path of an image"),
    ({"path": "/dev/null"}, "neither a file nor a block device"),
    ({"path": "/etc/passwd"}, r"multiple of 512|has .* bytes, and had|is another image|was written"),
    ({"path": "a\0b"}, "path makes no sense"),
    ({"cache": "none"}, "is none of writeback"),
    ({"serial": "x" * 21}, "at most 20 printable bytes"),
    ({"head": "00"}, "is another image"),
    ({"head": "x"}, "head makes no sense"),
    ({"written": 0}, "was written after"),
    ({"snapshot": True}, "exclude each other|is cut off"),
    ({"id": 7}, "id makes no sense"),
]


def test_a_hostile_description_of_a_disk_is_refused(reader: Path, tmp_path: Path) -> None:
    for fields, text in HOSTILE:

        def change(plain: dict[str, Any], fields: dict[str, Any] = fields) -> None:
            plain["guest"]["disks"][0].update(fields)

        with pytest.raises((BootError, ConfigError), match=text) as error:
            corral.restore(changed(reader, tmp_path / "changed", change))
        assert "\n" not in str(error.value)


def test_a_snapshot_of_another_user() -> None:
    if os.geteuid():
        pytest.skip("only root can be another user")
    script = """if True:
        import os, sys, corral
        def go():
            with corral.restore(sys.argv[1]) as vm:
                vm.streams.send("go\\n")
                print(vm.wait(60).status, len(vm.streams.output))
        go()  # what is imported later this user may not read
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        go()"""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:  # each pytest that begins closes its folder in /tmp
        os.chmod(folder, 0o755)
        image = made_in(Path(folder))
        image.chmod(0o644)
        saved = saved_reader(image, Path(folder, "saved"))
        saved.chmod(0o644)
        # A /dev/kvm for everybody, which nobody else sees.
        node, status = f"{folder}/kvm", os.stat("/dev/kvm").st_rdev
        makes = (
            f"mknod {node} c {os.major(status)} {os.minor(status)} && chmod 666 {node} && mount --bind {node} /dev/kvm"
        )
        command = ["unshare", "--mount", "sh", "-c", f'{makes} && exec "$@"', "sh", sys.executable, "-c", script, saved]
        done = subprocess.run(command, capture_output=True, timeout=LONG, check=False)
    assert (done.returncode, done.stdout) == (0, b"0 36\n0 36\n"), done.stderr


def test_commands(image: Path, tmp_path: Path) -> None:
    def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "corral", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False, **options)

    saved = str(tmp_path / "saved")
    machine = ("boot", "--root", "none", "--disk", str(image))
    done = run("snapshot", "--after", "# ", saved, "--", *machine)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert f"{image}, 24 MiB, written by its guest" in run("snapshot", "info", saved).stdout
    then, line = digest(image), "mkdir /mnt; mount -t ext4 /dev/vda /mnt; echo kept >/mnt/kept; umount /mnt; exit 5\n"
    done = run("boot", "--restore", saved, "--overlay", input=line)
    assert (done.returncode, digest(image)) == (5, then), done.stderr
    done = run("boot", "--restore", saved, input=line)
    assert done.returncode == 5, done.stderr
    assert root_image.content(image, "/kept") == b"kept\n"
    done = run("boot", "--restore", saved, input=line)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "was written after its guest was saved" in done.stderr
    done = run("boot", "--overlay")
    assert (done.returncode, "snapshot=on" in done.stderr) == (2, True), done.stderr
