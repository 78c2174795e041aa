"""login: from process start to the login prompt of an unmodified Debian with systemd, against QEMU microvm and q35.

In turns, with the same kernel (the package's file), initramfs, image and memory, each as its user starts it: Corral
picks the kernel's parameters itself, QEMU is given a console, a root and that it be quiet. In a nested host where this
one has no hardware KVM, and there `python -m benchmarks.login COMMANDS` does it. And here: how soon after `corral boot
debian` its kernel says its first line, when everything is there already.

`python -m benchmarks.login --corrals-part` lends QEMU what Corral does for its user: the kernel unpacked and all of
Corral's parameters. What then differs is the VMM alone.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial

from benchmarks import installed, nested
from benchmarks.boot import until
from benchmarks.measure import Samples, interleaved, report, verdict
from corral.compare.contenders.qemu import COMMON, PROGRAM
from corral.guests import cache, distribution, parameters, programs, root_initramfs, sources
from corral.guests.kernel_package import PREFIX, fetch
from corral.kvm.system import Kind, host_kind

ROUNDS, FIRST_LINE_ROUNDS = 5, 15
TRIES = 3
HANGS = 300.0  # seconds
MEMORY = "512"  # MiB
PATIENCE = 2400  # seconds: eighteen logins, of up to two minutes each on a slow machine
CORRALS_PART = "--corrals-part"
PROMPT, FIRST_LINE = b"login: ", b"\n"  # the console has the kernel alone
PLAIN = "console=ttyS0 quiet root=/dev/vda rw"  # what QEMU's documentation gives, and no more said than under Corral
MICROVM, Q35 = "QEMU microvm", "QEMU q35"


def commands(corrals_part: bool = False) -> dict[str, list[str]]:
    """By contender. Makes what they need: a nested host sees the cache of this one, and cannot add to it."""
    debian = distribution.get("debian", generic=False)
    archive = _initramfs(debian)
    kernel, line, of_q35 = _packaged(debian), PLAIN, PLAIN
    if corrals_part:
        kernel = debian.kernel
        line = f"{parameters.for_kind(Kind.HARDWARE, stock=True, acpi=True)} {parameters.for_root(0)}"
        of_q35 = line.replace("pci=conf1,noearly ", "")  # its disks are there
    image = f"{debian.image},snapshot=on"
    qemu = [*COMMON, "-m", MEMORY, "-serial", "stdio", "-kernel", kernel, "-initrd", archive]
    qemu += ["-drive", f"file={debian.image},format=raw,if=none,id=root,snapshot=on"]
    return {
        "Corral": [
            *(installed.corral(), "boot", kernel),
            *("--initrd", archive, "--memory", f"{MEMORY}M", "--disk", image),
        ],
        MICROVM: [PROGRAM, "-M", "microvm", *qemu, "-append", line, "-device", "virtio-blk-device,drive=root"],
        Q35: [PROGRAM, "-M", "q35", *qemu, "-append", of_q35, "-device", "virtio-blk-pci,drive=root"],
    }


def _packaged(debian: distribution.Distribution) -> str:
    return fetch(f"{PREFIX}{debian.release}").image


def _initramfs(debian: distribution.Distribution) -> str:
    """Corral's for that kernel, with the transport of q35's disks in it too."""
    modules = [*root_initramfs.ROOT_DISK, "virtio_pci"]
    key = sources.digest(repr(modules).encode(), programs.key("root.c").encode())
    target = cache.folder("bench", f"login_{debian.release}_{key}")
    with cache.making(target) as unfinished:
        if unfinished:
            tree = fetch(f"{PREFIX}{debian.release}").modules
            root_initramfs.build("root.c", modules, tree, os.path.join(unfinished, "initramfs.cpio"))
    return os.path.join(target, "initramfs.cpio")


def against_qemu(contenders: dict[str, list[str]]) -> Samples:
    """On hardware KVM."""
    return interleaved({name: partial(_login, name, command) for name, command in contenders.items()}, ROUNDS)


def _login(name: str, command: list[str]) -> float:
    """Seconds. A guest that does not come as far is told of and started again: in an emulated host one hangs now and
    then, whichever VMM runs it."""
    for _ in range(TRIES):
        try:
            seconds = until(command, PROMPT, HANGS)
        except RuntimeError as error:
            print(f"{name}, not counted: {error}", file=sys.stderr, flush=True)
            continue
        print(f"{name}: {seconds:.2f} s", file=sys.stderr, flush=True)
        return seconds
    raise RuntimeError(f"{name} did not come to a login prompt in {TRIES} tries")


def first_line() -> bool:
    """The second start and later ones: the first makes what they need."""
    command = [installed.corral(), "boot", "debian", "--early"]
    samples = interleaved({"corral boot debian": lambda: until(command, FIRST_LINE)}, FIRST_LINE_ROUNDS)
    medians = report("from process start to the kernel's first line, here", samples, "corral boot debian")
    return verdict("the first line", medians["corral boot debian"], 0.3, "s")


def main(corrals_part: bool = False) -> bool:
    contenders = commands(corrals_part)
    if host_kind() is Kind.HARDWARE:
        samples = against_qemu(contenders)
    else:
        samples = nested.run("login", contenders, timeout=PATIENCE)
    medians = report("from process start to a login prompt, Debian with systemd", samples, MICROVM, "s")
    met = [verdict(f"Corral / {peer}", medians["Corral"] / medians[peer], 0.8) for peer in (MICROVM, Q35)]
    return all([*met, first_line()])


if __name__ == "__main__":
    if sys.argv[1:] == [CORRALS_PART]:
        sys.exit(not main(corrals_part=True))
    elif len(sys.argv) > 1:
        print(json.dumps(against_qemu(json.loads(sys.argv[1]))))
    else:
        sys.exit(not main())
