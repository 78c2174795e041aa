"""Start a nested host, run commands in it over this same file system, end it."""

from __future__ import annotations

import os
import re
import select
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from corral.errors import HostError
from corral.guests import cache, debian, kernel, sources
from corral.images import build as images
from tests.nested import host_initramfs

BOOT_TIMEOUT = 60.0
SILENCE = 30.0  # seconds without a word, where there is one each two seconds: it hangs
OWN = "/tmp"  # which the nested host has for itself
EXCHANGE = f"{OWN}/exchange"  # in the nested host: NestedHost.exchange
DISK = f"{OWN}/disk"  # in the nested host
# Without ERMS and FSRM Linux clears pages by eight bytes at a time: the translator takes as long for one. Page tables
# of five levels, the nested ones too, are only more to walk.
CPU = "max,svm=on,-erms,-fsrm,-la57"
# Linux knows an AMD core's threads by leaf 0x8000001E of Zen's family, which QEMU has but does not offer by itself.
SMT = ",topoext=on,x-force-features=on,family=23,model=49,xlevel=0x8000001e"
APPEND = "console=ttyS0 loglevel=5 mitigations=off nokaslr tsc=reliable no_timer_check panic=-1"

# Where the nested host has this machine's files as one file system: its own root is layers of several.
ENTER = """
W=/tmp/whole
mountpoint -q $W/proc || { mount -t proc proc $W/proc && mount -t sysfs sys $W/sys \
    && mount --rbind /dev $W/dev && mount -t tmpfs tmp $W/tmp; } || exit
exec chroot $W sh -c 'cd "$0" && exec "$@"' "$PWD" "$@"
"""


dead_at_start: list[str] = []  # why; for who tells what was repeated


class HostDied(HostError):
    """The emulated machine's own kernel panicked, or QEMU ended, or nothing came from either any more."""


@dataclass(frozen=True)
class Completed:
    """A command's end. `status` is what a shell would have in $?."""

    status: int
    stdout: str
    stderr: str


class NestedHost:
    """A context manager. `nodes`: NUMA nodes of equal size with CPUs in turns, or of each one its CPUs and MiB;
    `distances`: {(from, to): distance} between them. `smp`: QEMU's words for the shape of its CPUs.

    `disk_mb`: the size of an empty ext4 file system on a disk of the host's own, at DISK; 0 for none.
    """

    def __init__(
        self,
        cpus: int = 2,
        memory_mb: int = 3072,
        nodes: int | list[tuple[list[int], int]] = 1,
        distances: dict[tuple[int, int], int] | None = None,
        disk_mb: int = 0,
        smp: str = "",
    ) -> None:
        self._disk = disk_mb
        if isinstance(nodes, int):
            nodes = [(list(range(node, cpus, nodes)), memory_mb // nodes) for node in range(nodes)]
        self._cpus, self._memory, self._nodes = cpus, sum(size for _, size in nodes), nodes
        self._cpu = CPU + (SMT if "threads" in smp else "")
        self._smp = f"{cpus},{smp}" if smp else str(cpus)
        self._distances = distances or {}
        self._count = 0

    def __enter__(self) -> NestedHost:
        if Path.cwd().is_relative_to(OWN):
            raise HostError(f"the nested host has a {OWN} of its own, so it does not see this folder; work elsewhere")
        if shutil.which("qemu-system-x86_64") is None:
            debian.require_installed(["qemu-system-x86"], "the nested host")
        image = kernel.get("stock-generic")
        initramfs = _initramfs(image)
        try:
            return self._start(image, initramfs)
        except HostDied as error:  # QEMU's translator ends with a segmentation fault, or hangs, in one of fifty starts
            dead_at_start.append(str(error))
            return self._start(image, initramfs)

    def _start(self, image: kernel.KernelFile, initramfs: str) -> NestedHost:
        self._folder = tempfile.mkdtemp(prefix="corral-nested-")
        (Path(self._folder) / "agent").write_text(host_initramfs.AGENT)
        ours, theirs = socket.socketpair()
        self._line = ours
        command = [
            *("setpriv", "--pdeathsig", "KILL", "--"),  # nor does it outlive who started it and was killed
            *("qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", self._cpu),
            *("-smp", self._smp, "-m", str(self._memory), "-no-reboot", "-nodefaults", "-display", "none"),
            *("-kernel", image.path, "-initrd", initramfs, "-append", APPEND),
            *("-serial", f"file:{self._folder}/console"),
            *("-chardev", f"socket,id=line,fd={theirs.fileno()}", "-serial", "chardev:line"),
            *_export("root", "/", "readonly=on,"),
            *_export("exchange", self._folder, ""),
            *self._numa(),
            *self._own_disk(),
        ]
        self._qemu = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        theirs.close()
        try:
            self._expect("ready", BOOT_TIMEOUT, BOOT_TIMEOUT)
        except HostError as error:
            self.__exit__()
            raise HostDied(str(error)) from None
        except BaseException:
            self.__exit__()
            raise
        return self

    def restart(self) -> None:
        self.__exit__()
        self.__enter__()

    def __exit__(self, *exception: object) -> None:
        self._qemu.kill()
        self._qemu.wait()
        if self._qemu.stderr:
            self._qemu.stderr.close()
        self._line.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    own = OWN  # a folder for what a test writes

    def run(
        self,
        argv: list[str],
        timeout: float = 600,
        live: bool = False,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
    ) -> Completed:
        """Runs a command in the host, in this folder (or `cwd`) with this environment (and `env`).

        `live` copies its output to this process's as it comes. Raises HostDied when `timeout` seconds are over or
        the host dies: it is of no use afterwards.
        """
        self._count += 1
        number = str(self._count)
        variables = {**os.environ, **(env or {})}
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items() if _plain(name))
        script = f"{exports}cd {shlex.quote(cwd or os.getcwd())} || exit 125\nexec {shlex.join(argv)}\n"
        self._file(number, "command").write_text(script)
        try:
            self._line.sendall(f"{number}\n".encode())
        except BrokenPipeError:
            raise HostDied(f"the nested host died: {self._complaint()}") from None
        try:
            answer = self._expect(number, timeout, SILENCE, (number, sys.stdout, sys.stderr) if live else None)
        except HostError as error:
            said = [self._file(number, kind) for kind in ("stdout", "stderr")]
            words = "".join(file.read_text(errors="replace")[-2000:] for file in said if file.exists())
            raise HostDied(f"{error}; the command's last words: {words}") from None
        stdout, stderr = (self._file(number, kind).read_text(errors="replace") for kind in ("stdout", "stderr"))
        return Completed(int(answer.split()[1]), stdout, stderr)

    @property
    def exchange(self) -> Path:
        """The folder that both may write to; it goes with the host."""
        return Path(self._folder)

    def console(self) -> str:
        """What the host's kernel said."""
        return (Path(self._folder) / "console").read_text(errors="replace")

    def _file(self, number: str, kind: str) -> Path:
        return Path(self._folder) / f"{number}.{kind}"

    def _expect(self, word: str, timeout: float, silence: float, live: tuple[str, TextIO, TextIO] | None = None) -> str:
        """The line that begins with `word`. Copies a command's growing output files while it waits."""
        heard = time.monotonic()
        deadline = heard + timeout
        received = b""
        shown = {"stdout": 0, "stderr": 0}
        while True:
            readable, _, _ = select.select([self._line], [], [], 0.1)
            if readable:
                data = self._line.recv(4096)
                received += data
                heard = time.monotonic()
                if not data:
                    raise HostDied(f"the nested host died: {self._complaint()}")
            if live:
                for kind, stream in (("stdout", sys.stdout), ("stderr", sys.stderr)):
                    path = self._file(live[0], kind)
                    if path.exists():
                        with path.open("rb") as file:
                            file.seek(shown[kind])
                            new = file.read()
                        shown[kind] += len(new)
                        stream.write(new.decode(errors="replace"))
                        stream.flush()
            for line in received.decode(errors="replace").splitlines(keepends=True):
                if line.startswith(word) and line.endswith("\n"):
                    return line
            if time.monotonic() > deadline:
                raise HostError(f"the nested host did not answer within {timeout:g} s: {self._complaint()}")
            if time.monotonic() > heard + silence:
                raise HostError(f"the nested host said nothing for {silence:g} s: {self._complaint()}")

    def _complaint(self) -> str:
        lines = self.console().strip().splitlines() or ["no console output"]
        panic = next((at for at, line in enumerate(lines) if re.search("BUG:|Oops|panic|fault:", line)), len(lines) - 1)
        last = "\n".join(lines[panic:])
        if self._qemu.poll() is not None and self._qemu.stderr:
            last += " " + self._qemu.stderr.read().decode(errors="replace").strip()
        return last

    def _own_disk(self) -> list[str]:
        if not self._disk:
            return []
        images.create(f"{self._folder}/disk", self._disk << 20, empty=False)
        drive = f"file={self._folder}/disk,if=none,id=disk,format=raw,cache=unsafe"
        return ["-drive", drive, "-device", "virtio-blk-pci,drive=disk"]

    def _numa(self) -> list[str]:
        if len(self._nodes) == 1:
            return []
        words = []
        for node, (cpus, size) in enumerate(self._nodes):
            if size:
                words += ["-object", f"memory-backend-ram,id=ram{node},size={size}M"]
            memory = f",memdev=ram{node}" if size else ""
            words += ["-numa", f"node,nodeid={node}{memory}" + "".join(f",cpus={cpu}" for cpu in cpus)]
        for (source, target), distance in self._distances.items():
            words += ["-numa", f"dist,src={source},dst={target},val={distance}"]
        return words


def in_one_root(argv: list[str]) -> list[str]:
    """The command that runs `argv`, in a nested host, where the root is one file system, which nobody can write to:
    a guest can look like that."""
    return ["sh", "-c", ENTER, "sh", *argv]


def _plain(name: str) -> bool:
    return name.isidentifier() and name not in ("PWD", "OLDPWD", "SHLVL", "LD_PRELOAD")


def _export(tag: str, path: str, options: str) -> tuple[str, ...]:
    return (
        "-fsdev",
        f"local,id={tag},path={path},security_model=none,{options}multidevs=remap",
        "-device",
        f"virtio-9p-pci,fsdev={tag},mount_tag={tag}",
    )


def _initramfs(image: kernel.KernelFile) -> str:
    assert image.package
    content = Path(host_initramfs.__file__).read_bytes()
    target = cache.folder("nested", f"{image.version}_{sources.digest(content)}")
    with cache.making(target) as unfinished:
        if unfinished:
            (Path(unfinished) / "initramfs.cpio").write_bytes(host_initramfs.build(image.package.modules))
    return os.path.join(target, "initramfs.cpio")
