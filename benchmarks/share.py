"""share: a guest's work in a shared folder, by Corral's server and by diod behind the same device, in guests in turn.

For root, with git on this host; diod is installed if it is missing. diod runs as it is, without a jail.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Samples, report, verdict
from corral.backends import folder_server
from corral.backends.folder_server import FolderServer
from corral.guests import debian, kernel

ROUNDS = 5
FOLDERS = FILES = 100
MIB = 256
OURS, DIOD = "Corral's server", "diod"
# At most as long as diod, each.
TASKS = {
    "git": f"git status, {FOLDERS * FILES:,} files",
    "small": "1,000 small files made, listed, removed",
    "write": f"{MIB} MiB written, fsync",
    "read": f"{MIB} MiB read",
    "cpu": "CPU time of the host for all of it, and for the guest's start",
}
# The tools are this host's, from a share that is the same for both.
SCRIPT = """
mkdir /r && mount -t 9p -o trans=virtio,msize=512000,cache=loose,ro root /r &&
mount -t proc proc /r/proc && mount -t tmpfs tmp /r/tmp && mount -t devtmpfs dev /r/dev &&
mount -t 9p -o trans=virtio,msize=512000,uname=root,aname=FOLDER data /r/mnt &&
exec env HOME=/tmp PATH=/usr/bin:/bin chroot /r /bin/bash -euc '
cd /mnt
small() { mkdir new; for ((i = 0; i < 1000; i++)); do echo $i >new/$i; done; ls -l new >/dev/null; rm -r new; }
timed() { local start=$EPOCHREALTIME; "${@:2}" >/dev/null 2>&1; echo "$1 $start $EPOCHREALTIME"; }
git -C repository --version >/dev/null; ls >/dev/null; rm -f big
timed git git -C repository status --porcelain
timed small small
timed write dd if=/dev/zero of=big bs=1M count=MIB conv=fsync
timed read dd if=big of=/dev/null bs=1M
'
"""


class DiodServer(FolderServer):
    """diod in the place of the server of a folder that is to be written."""

    def _spawn(self, program: str, line: int, folder: int, words: int) -> int:
        if not self._share.writable:
            return super()._spawn(program, line, folder, words)
        path = os.path.realpath(self._share.path)
        with tempfile.NamedTemporaryFile("w", suffix=".conf", delete=False) as file:
            file.write(f'exports = {{ {{ path="{path}", opts="" }} }}\n')
        command = ["diod", "--foreground", "--no-auth", "--logdest=stderr", f"--config-file={file.name}"]
        command += [f"--rfdno={line}", f"--wfdno={line}"]
        return subprocess.Popen(command, pass_fds=[line], stdin=subprocess.DEVNULL, stderr=words).pid


def main_with_diod() -> None:
    """The corral command, with it."""
    folder_server.FolderServer = DiodServer  # type: ignore[misc]
    from corral.cli import main

    sys.exit(main())


def times(server: str, folder: Path) -> dict[str, float]:
    """Seconds of each task in a guest of its own."""
    start = [sys.executable, "-m", "corral"]
    if server == DIOD:
        start = [sys.executable, "-c", "from benchmarks.share import main_with_diod; main_with_diod()"]
    script = SCRIPT.replace("FOLDER", str(folder)).replace("MIB", str(MIB))
    words = ["boot", kernel.get(kernel.SMALL).path, "--memory", "1G"]
    words += ["--share", "/,tag=root", "--share", f"{folder},tag=data,rw", "--", script]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = subprocess.run([*start, *words], capture_output=True, text=True, timeout=600)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = dict(line.split(" ", 1) for line in said.stdout.splitlines())
    found["cpu"] = f"{before.ru_utime + before.ru_stime} {after.ru_utime + after.ru_stime}"
    if said.returncode or set(found) != set(TASKS):
        raise RuntimeError(f"{server}: status {said.returncode}: {said.stdout}{said.stderr}")
    return {name: float(pair.split()[1]) - float(pair.split()[0]) for name, pair in found.items()}


def repository(folder: Path) -> None:
    for number in range(FOLDERS):
        inner = folder / "repository" / str(number)
        inner.mkdir(parents=True)
        for file in range(FILES):
            (inner / str(file)).write_text(f"{number} {file}\n")
    git = ["git", "-C", str(folder / "repository"), "-c", "user.name=corral", "-c", "user.email=corral"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True)


def main() -> bool:
    if os.geteuid() != 0:
        print("share: skipped: diod serves the users of a guest when it is root's")
        return True
    debian.require_installed(["diod", "git"], "comparing")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        repository(Path(name))
        samples: dict[str, Samples] = {task: {OURS: [], DIOD: []} for task in TASKS}
        for index in range(ROUNDS + 1):
            for server in (OURS, DIOD):
                for task, value in times(server, Path(name)).items():
                    if index:  # the first warms the host's memory
                        samples[task][server].append(value)
    met = True
    for task, title in TASKS.items():
        medians = report(f"share: {title}", samples[task], DIOD)
        met &= verdict(f"{title}, of diod's", medians[OURS] / medians[DIOD], 1.0)
    return met


if __name__ == "__main__":
    sys.exit(not main())
