"""Peers of `corral exec` and `corral cp`: ssh and scp to a dropbear in the same guest, by a published port of the
loopback, and `runc exec` in a container. The guest looks like this host, so it has the host's dropbear."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.measure import interleaved, report, seconds
from corral.agent.command import RunningCommand, wanted
from corral.agent.connection import Connection
from corral.errors import CorralError
from corral.guests import initramfs
from corral.running import place
from corral.script.sandbox import Sandbox

ROUNDS, COPIES, MIB = 15, 3, 256
NEEDED = {"dropbear": "dropbear-bin", "ssh": "openssh-client", "scp": "openssh-client", "runc": "runc"}
AGENT, EXEC, SSH, RUNC = "agent, from Python", "corral exec, a process", "ssh to dropbear in the guest", "runc exec"
CP, SCP = "corral cp", "scp to dropbear in the guest"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def container(folder: Path) -> Iterator[list[str]]:
    """One that sleeps; gives the words of a command in it."""
    root = folder / "root"
    for name in ("bin", "proc", "dev", "sys"):
        (root / name).mkdir(parents=True)
    (root / "bin" / "busybox").write_bytes(initramfs.busybox())
    (root / "bin" / "busybox").chmod(0o755)
    for name in ("sleep", "true"):
        (root / "bin" / name).symlink_to("busybox")
    runc = ["runc", "--root", str(folder / "state")]
    subprocess.run(["runc", "spec", "--bundle", folder], check=True)
    about = json.loads((folder / "config.json").read_text())
    about["process"] |= {"terminal": False, "args": ["sleep", "100000"]}
    about["root"]["path"] = str(root)
    (folder / "config.json").write_text(json.dumps(about))
    name = f"corral-inside-{os.getpid()}"
    quiet = subprocess.DEVNULL
    run = [*runc, "run", "--detach", "--bundle", str(folder), name]
    subprocess.run(run, check=True, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        yield [*runc, "exec", name]
    finally:
        subprocess.run([*runc, "delete", "--force", name], check=False)


def with_dropbear(box: Sandbox, folder: Path, port: int) -> list[str]:
    """Starts it in the guest; gives the options of ssh and scp."""
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    box.files.mkdir("/root/.ssh", mode=0o700)
    box.files.write("/root/.ssh/authorized_keys", key.with_suffix(".pub").read_bytes(), mode=0o600)
    box.run("dropbearkey -t ed25519 -f /tmp/hostkey", check=True)
    box.run("(setsid dropbear -F -E -r /tmp/hostkey -p 2222 >/tmp/dropbear.log 2>&1 &)", check=True)
    words = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", f"Port={port}")
    options = ["-i", str(key), *(word for option in words for word in ("-o", option))]
    end = time.monotonic() + 30
    while subprocess.run(["ssh", *options, "root@127.0.0.1", "true"], capture_output=True, check=False).returncode:
        if time.monotonic() > end:
            raise CorralError(f"no ssh to the guest: {box.run('cat /tmp/dropbear.log').stdout}")
        time.sleep(0.2)
    return options


def by_agent(path: str) -> float:
    began = time.perf_counter()
    with Connection(path, time.monotonic() + 30) as connection:
        RunningCommand(connection, wanted(["true"]), lambda stream, data: None).wait()
    return time.perf_counter() - began


def copies(box: Sandbox, folder: Path, ssh: list[str]) -> None:
    big = folder / "big"
    with big.open("wb") as file:
        for _ in range(MIB):
            file.write(os.urandom(1 << 20))
    digest = hashlib.sha256(big.read_bytes()).hexdigest()

    def copied(command: list[str]) -> float:
        took = seconds(command)
        assert box.run("sha256sum /tmp/big").stdout.split()[0] == digest, "the copy is another"
        box.files.remove("/tmp/big")
        return took

    corral = [sys.executable, "-m", "corral", "cp", str(big), f"{box.name}:/tmp/big"]
    # -O: dropbear has no sftp server.
    scp = ["scp", "-q", "-O", *ssh, str(big), "root@127.0.0.1:/tmp/big"]
    both = {CP: lambda: copied(corral), SCP: lambda: copied(scp)}
    report(f"{MIB} MiB into the guest, SHA-256 equal", interleaved(both, COPIES), SCP)


def main() -> bool:
    missing = [package for program, package in NEEDED.items() if shutil.which(program) is None]
    if missing:
        print(f"\nno peers of corral exec and cp: apt-get install {' '.join(missing)}")
        return True
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        options = ["--publish", f"{port}:2222"]
        try:
            box = stack.enter_context(Sandbox("host", memory="1G", options=options))
            ssh = with_dropbear(box, folder, port)
            inside = stack.enter_context(container(folder / "bundle"))
        except (CorralError, subprocess.CalledProcessError) as error:
            print(f"\nno peers of corral exec and cp: {error}")
            return True
        path = os.path.join(place.folder(box.name), place.VSOCK)
        commands = {
            EXEC: [sys.executable, "-m", "corral", "exec", box.name, "--", "true", "x"],
            SSH: ["ssh", *ssh, "root@127.0.0.1", "true"],
            RUNC: [*inside, "true"],
        }
        contenders: dict[str, Callable[[], float]] = {AGENT: lambda: by_agent(path)}
        contenders |= {name: (lambda words=words: seconds(words)) for name, words in commands.items()}  # type: ignore[misc]
        medians = report("true in what runs", interleaved(contenders, ROUNDS), SSH)
        shares = medians[EXEC] / medians[RUNC], medians[AGENT] / medians[RUNC]
        print("  corral exec takes {:.2f} of runc exec, the agent {:.2f}".format(*shares))
        copies(box, folder, ssh)
    return True


if __name__ == "__main__":
    sys.exit(not main())
