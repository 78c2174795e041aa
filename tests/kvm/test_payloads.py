"""Payloads that are no Linux, run: Multiboot kernels, flat binaries, programs of the distribution; and their exits."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import kernels, packages
from tests.support.tiny_guests import raw, tiny_guest

CORRAL = [sys.executable, "-m", "corral", "boot"]
LONG = 30.0  # seconds: nothing takes so long unless it hangs


def boot(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CORRAL, *words], capture_output=True, text=True, timeout=LONG, check=False, stdin=0)


@pytest.fixture
def modules(tmp_path: Path) -> list[str]:
    """Options that give two modules, one with words."""
    (tmp_path / "first").write_text("FIRST")
    (tmp_path / "second").write_text("x" * 5000)
    return ["--module", f"{tmp_path}/first=with words=and more", "--module", f"{tmp_path}/second"]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("form", ["elf", "elf-addresses", "raw"])
def test_multiboot(version: int, form: str, modules: list[str]) -> None:
    kernel = tiny_guest("multiboot", VERSION=version, **({} if form == "elf" else {"ADDRESSES": 1}))
    if form == "raw":
        kernel = raw(kernel)
    done = boot(str(kernel), "--append", "one two", "--memory", "64M", *modules)
    assert (done.returncode, done.stderr) == (0, "")
    ram = "0000003f\n"  # 64 MiB without what is reserved below 1 MiB
    assert done.stdout == "one two\nCorral\nFIRST with words=and more\n" + "x" * 5000 + " \n" + ram


@pytest.mark.parametrize("version", [1, 2])
def test_an_initrd_is_the_first_module(version: int, tmp_path: Path, modules: list[str]) -> None:
    (tmp_path / "initrd").write_text("INITRD")
    kernel = str(tiny_guest("multiboot", VERSION=version))
    done = boot(kernel, "--initrd", f"{tmp_path}/initrd", "--memory", "6G", *modules[:2])
    assert done.stdout.startswith("\nCorral\nINITRD \nFIRST with words=and more\n"), done.stderr


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="no QEMU")
def test_multiboot_as_qemu_does_it(modules: list[str]) -> None:
    """The same guest finds the same modules, words and memory; QEMU puts file names before words."""
    kernel = str(tiny_guest("multiboot", VERSION=1))
    path, _, words = modules[1].partition("=")
    ours = boot(kernel, "--memory", "64M", "--module", f"{path}={path} {words}")
    command = ["qemu-system-x86_64", "-kernel", kernel, "-m", "64", "-initrd", f"{path} {words}"]
    theirs = qemu(command)
    assert ours.stdout.splitlines()[2:] == theirs.stdout.splitlines()[2:]
    assert len(ours.stdout.splitlines()) == 4


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="no QEMU")
def test_debug_exit_as_qemu_does_it() -> None:
    kernel = str(tiny_guest("debug_exit", PORT=0x501, VALUE=0x31, WIDTH=1))
    command = ["qemu-system-x86_64", "-kernel", kernel, "-device", "isa-debug-exit,iobase=0x501,iosize=4"]
    assert boot(kernel, "--debug-exit", "0x501").returncode == qemu(command).returncode == 0x63


def qemu(command: list[str]) -> subprocess.CompletedProcess[str]:
    words = ["-display", "none", "-serial", "stdio", "-no-reboot", "-nic", "none"]
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=LONG, check=False, stdin=0)


def test_pvh_with_modules(tmp_path: Path, modules: list[str]) -> None:
    """The guest prints its command line, and six bytes of its first module."""
    (tmp_path / "pvh").write_bytes(kernels.pvh_guest())
    done = boot(f"{tmp_path}/pvh", "--append", "words", *modules)
    assert (done.returncode, done.stdout, done.stderr) == (0, "wordsFIRST\0", "")


def test_a_flat_binary(tmp_path: Path) -> None:
    # mov dx, 0x3f8; mov al, '!'; out dx, al; mov al, 0xfe; out 0x64, al; hlt
    (tmp_path / "flat").write_bytes(bytes(16) + bytes.fromhex("baf803b021eeb0fee664f4"))
    done = boot(f"{tmp_path}/flat", "--flat", "real@0x7c00,entry=0x7c10")
    assert (done.returncode, done.stdout, done.stderr) == (0, "!", "")


@pytest.mark.parametrize(
    ("value", "width", "status"),
    [(0, 1, 1), (1, 1, 3), (0x10, 1, 0x21), (0x31, 4, 0x63), (0x180, 2, 1), (0xFF, 1, 0xFF)],
)
def test_debug_exit(value: int, width: int, status: int) -> None:
    """Statuses as QEMU's -device isa-debug-exit,iobase=0xf4,iosize=4 makes them."""
    done = boot(str(tiny_guest("debug_exit", PORT=0xF4, VALUE=value, WIDTH=width)), "--debug-exit", "0xf4")
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


def test_without_debug_exit_there_is_no_such_port() -> None:
    done = boot(str(tiny_guest("debug_exit", PORT=0xF4, VALUE=1, WIDTH=1)))
    assert (done.returncode, done.stdout) == (0, "?")


BAD = {
    "--flat": ["real", "real@", "virtual@0x100", "real@-1", "real@0x7c00,enter=1", "real@1" + "0" * 30],
    "--module": ["", "=words", "missing", "/dev/zero"],
    "--protocol": ["", "efi", "pvh"],
    "--debug-exit": ["", "x", "0", "0x1e", "0x40", "0x64", "0x7d", "0x3fa", "0xca1", "0xcff", "0xfffd", "0x10000"],
}


@pytest.mark.parametrize(("option", "value"), [(option, value) for option, values in BAD.items() for value in values])
def test_bad_words_are_one_line_and_status_2(option: str, value: str) -> None:
    done = boot(str(tiny_guest("multiboot", VERSION=1)), option, value)
    assert done.returncode == 2
    assert done.stderr.startswith("corral: ")
    assert done.stderr.count("\n") == 1


def test_linux_takes_no_modules(tmp_path: Path, modules: list[str]) -> None:
    (tmp_path / "vmlinux").write_bytes(kernels.vmlinux())
    done = boot(f"{tmp_path}/vmlinux", "--initrd", "none", *modules)
    assert done.returncode == 2
    assert "takes no modules" in done.stderr


def test_a_multiboot_program_with_a_screen() -> None:
    """grub-invaders: an ELF file whose Multiboot header has addresses of its own. Its screen is a PC's."""
    program = packages.file("grub-invaders", "invaders.exec")
    done = boot(program, "--screen", "--timeout", "1", "--memory", "64M")
    assert done.returncode == 124
    assert done.stderr.count("-*-") > 20, done.stderr


@pytest.mark.long
def test_memtest_on_the_serial_line() -> None:
    words = [packages.file("memtest86+", "memtest86+x64.bin"), "--append", "console=ttyS0,115200", "--memory", "64M"]
    with subprocess.Popen([*CORRAL, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        seen, give_up = b"", time.monotonic() + LONG
        while b"Memtest86+" not in seen and time.monotonic() < give_up:
            piece = os.read(process.stdout.fileno(), 4096)
            if not piece:
                break
            seen += piece
        process.terminate()
    assert b"Memtest86+" in seen
