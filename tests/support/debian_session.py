"""A person at `corral boot` of a Debian image, played through a pseudo-terminal:

python -m tests.support.debian_session [--cpus N] [--kernel NAME] [--times N] [--name debian:SUITE] HOW

NAME is the kernel: cloud, generic, or small (Corral's own, as on a pagetable KVM; nobody works there, for it has no
systemd). HOW is how it ends: poweroff (from inside), sigterm or ctrl-a-x (from outside). The guest writes to a copy of
the image, and e2fsck looks at that afterwards. With --times the copy is booted so often, and only the first time a
person works there. --from and --into are archives of the copy as it is before and afterwards, for tests.support.boots:
then nobody works there. Says how long the login prompt took; ends with status 0 if all was well.
"""

from __future__ import annotations

import argparse
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

from corral.guests import cache, distribution
from corral.guests.distribution_recipe import INIT_OF_SMALL

LONG = 300.0  # seconds: an emulated host is slow, and others may be at work beside it
PROMPT = b"corral:~# "


class Terminal:
    """Corral on a terminal of ours."""

    def __init__(self, argv: list[str]) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, 80))
        self.started = time.monotonic()
        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        self.text = b""

    def expect(self, words: bytes, timeout: float = LONG) -> bytes:
        """What came up to `words`, and takes it away. Raises AssertionError with the last that came instead."""
        deadline = time.monotonic() + timeout
        while words not in self.text:
            ready, _, _ = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))
            try:
                data = os.read(self.master, 4096) if ready else b""
            except OSError:  # the other side is closed
                data = b""
            assert data, f"no {words!r}, but {self.text[-2000:].decode(errors='replace')}"
            self.text += data
        before, _, self.text = self.text.partition(words)
        print(f"{time.monotonic() - self.started:.1f} s: {words.decode()}", flush=True)
        return before

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def say(self, line: bytes) -> bytes:
        """What a line for the shell printed."""
        self.type(line + b"\r")
        return self.expect(PROMPT)

    def end(self) -> int:
        """Reads what still comes, and gives the exit status."""
        while True:
            try:
                if not os.read(self.master, 4096):
                    break
            except OSError:
                break
        return self.process.wait(LONG)


def work(terminal: Terminal) -> None:
    terminal.type(b"root\r")
    terminal.expect(PROMPT)
    assert b"1 loaded" not in terminal.say(b"systemctl --failed --no-pager | cat")
    # As apt does: many files, then all of it on the disk.
    assert b"written" in terminal.say(
        b"cp -r /usr/share/zoneinfo /root/copy 2>&1; cp -r /etc /root/etc; sync; echo writ''ten"
    )
    terminal.type(b"sleep 1000\r")
    time.sleep(1)
    terminal.type(b"\x03")
    terminal.expect(PROMPT)
    terminal.say(b"stty rows 40 cols 100")
    assert b"40 100" in terminal.say(b"stty size")
    terminal.type(b"vi note\r")
    terminal.expect(b"~\x1b")  # the lines behind the end of a file, drawn one by one
    time.sleep(1)
    terminal.type(b"icorral\x1b:wq\r")
    terminal.expect(PROMPT)
    assert b"corral" in terminal.say(b"cat note; echo").replace(b"cat note", b"")


def packed(found: distribution.Distribution) -> str:
    """The image as an archive, made where its holes can be seen: an emulated host reads its files through 9P, which
    knows of none, and takes minutes for the 4 GiB."""
    target = cache.folder("nested", os.path.basename(found.folder))
    with cache.making(target) as unfinished:
        if unfinished:
            pack(found.image, os.path.join(unfinished, "root.tar"))
    return os.path.join(target, "root.tar")


def pack(image: str, archive: str) -> None:
    folder, name = os.path.split(image)
    subprocess.run(["tar", "--create", "--sparse", "--file", archive, f"--directory={folder}", name], check=True)


def session(argv: list[str], how: str, first: bool) -> None:
    """From its start to its end by itself."""
    terminal = Terminal(argv)
    try:
        said = terminal.expect(b"login: ")
        assert b"corral: this kernel" not in said, f"the preflight finds fault: {said.decode(errors='replace')}"
        print(f"login prompt after {time.monotonic() - terminal.started:.1f} s", flush=True)
        if first:
            work(terminal)
        elif how == "poweroff":
            terminal.type(b"root\r")
            terminal.expect(PROMPT)
        if how == "poweroff":
            terminal.type(b"poweroff\r")
        elif how == "sigterm":
            terminal.process.send_signal(signal.SIGTERM)
        else:
            terminal.type(b"\x01x")
        status = terminal.end()
        assert status == 0, f"status {status}"
    finally:
        terminal.process.kill()
        terminal.process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.debian_session")
    parser.add_argument("--cpus", default="1")
    parser.add_argument("--kernel", choices=["cloud", "generic", "small"], default="cloud")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--name", default="debian")
    parser.add_argument("--from", dest="before", metavar="ARCHIVE")
    parser.add_argument("--into", dest="after", metavar="ARCHIVE")
    parser.add_argument("how", choices=["poweroff", "sigterm", "ctrl-a-x"])
    options = parser.parse_args()
    small = options.kernel == "small"
    found = distribution.get(options.name, options.kernel == "generic")
    image = Path("/tmp", os.path.basename(found.image))
    archive = options.before or packed(found)
    subprocess.run(["tar", "--extract", "--sparse", "--file", archive, "--directory=/tmp"], check=True)
    argv = [sys.executable, "-m", "corral", "boot", "--disk", str(image)]
    argv += ["--append", f"init={INIT_OF_SMALL}"] if small else [found.kernel, "--initrd", found.initramfs]
    argv += ["--grace", "60", "--cpus", options.cpus]
    somebody_works = not (small or options.before)
    try:
        for boot in range(options.times):
            session(argv, options.how, first=somebody_works and boot == 0)
            subprocess.run(["e2fsck", "-fn", str(image)], check=True, capture_output=True)
            print(f"boot {boot + 1}: clean", flush=True)
        if options.after:
            pack(str(image), options.after)
        return 0
    finally:
        image.unlink()


if __name__ == "__main__":
    sys.exit(main())
