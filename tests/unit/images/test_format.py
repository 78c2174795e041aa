"""Formats that are not raw are told by their first bytes, and what is told is safe to follow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.files.format import HEAD_SIZE, foreign_format, refusal

HEADS = {
    "qcow": b"QFI\xfb\0\0\0\1",
    "qcow2": b"QFI\xfb\0\0\0\3",
    "QED": b"QED\0",
    "VMDK": b"KDMV\1\0\0\0",
    "VHD": b"conectix",
    "VHDX": b"vhdxfile",
    "VDI": b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(0x40, b"\0") + b"\x7f\x10\xda\xbe",
    "Parallels": b"WithoutFreeSpace",
    "Bochs": b"Bochs Virtual HD Image",
}


@pytest.mark.parametrize("name", HEADS)
def test_a_format_is_known_by_its_first_bytes(name: str) -> None:
    assert foreign_format(HEADS[name].ljust(HEAD_SIZE, b"\0")) == name
    assert foreign_format(HEADS[name]) == name
    assert foreign_format(b"\0" + HEADS[name]) is None


def test_text_descriptors_of_vmdk() -> None:
    assert foreign_format(b"# Disk DescriptorFile\nversion=1\n") == "VMDK"


@pytest.mark.parametrize("head", [b"", bytes(HEAD_SIZE), b"\xeb\x63\x90".ljust(510, b"\0") + b"\x55\xaa"])
def test_what_is_raw_is_raw(head: bytes) -> None:
    assert foreign_format(head) is None


@given(st.binary(max_size=HEAD_SIZE))
def test_any_bytes_have_an_answer(head: bytes) -> None:
    assert foreign_format(head) is None or foreign_format(head) in HEADS


def test_the_refusal_warns_of_converting_what_a_guest_wrote() -> None:
    text = refusal("VHD", "format=raw")
    assert "qemu-img convert -f vpc -O raw" in text
    assert text.index("never convert") > text.index("if a guest has had it")
    assert text.endswith("format=raw")
    assert "\n" not in text
