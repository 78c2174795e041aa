"""Looking for what to boot on any disk of 16 MiB costs two seconds and 256 MiB at most."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from corral.files import ext4_files
from corral.images import root
from corral.images.volumes import DiskVolumes
from tests.support.cost import CORRAL, cost
from tests.support.hostile_disks import with_large_folders

SECONDS, MEBIBYTES = 2.0 + 2.0, 256.0  # and what a busy machine makes of it
MOST = ext4_files.MOST_OF_FOLDERS
LOOK = """
import sys
from corral.images import boot_folder, root
from corral.images.volumes import DiskVolumes
with DiskVolumes(sys.argv[1]) as disk:
    found = root.of(disk)
    boot_folder.configuration(disk, found, "6.1")
    print(len(disk.volumes), boot_folder.find(disk, found))
"""


@pytest.mark.parametrize("prefix", [b"", b"vmlinuz-", b"6.1."])
@pytest.mark.parametrize("size", [None, MOST, MOST // 3])
@pytest.mark.long
def test_file_systems_of_names_alone(tmp_path: Path, size: int | None, prefix: bytes) -> None:
    """The first of 49 partitions that are all the same one: what is read of it counts for all."""
    disk = with_large_folders(tmp_path / "disk.img", 18, prefix, size)
    assert disk.stat().st_size <= 16 << 20
    for command in ([*CORRAL, "image", "info", str(disk)], [sys.executable, "-c", LOOK, str(disk)]):
        found = cost(*command)
        assert found.status == 0, found.output
        assert found.seconds < SECONDS, command
        assert found.mebibytes < MEBIBYTES, command
    assert found.output == "49 None\n"


def test_a_small_folder_is_read_though_a_large_one_was_refused(tmp_path: Path) -> None:
    disk = with_large_folders(tmp_path / "disk.img", 4, size=MOST + 4096)
    with DiskVolumes(str(disk)) as opened:
        root.of(opened)
        assert opened.volumes[0].allowance.left == MOST
