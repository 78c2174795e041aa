"""The 9P server of a shared folder: a diod for each, which speaks over a socket of Corral's and ends with it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

from corral.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import ShareConfig

SEARCHED = "/usr/sbin:/usr/local/sbin"  # besides PATH, which of a user that is not root often lacks them
PATIENCE = 2.0  # seconds that it may take to end after its connection has


def find() -> str:
    """diod's path. Raises HostError."""
    found = shutil.which("diod") or shutil.which("diod", path=SEARCHED)
    if not found:
        raise HostError("sharing a folder with a guest needs diod; install it: apt-get install diod")
    return found


class FolderServer:
    """One that runs; `fd` is a connected socket. With the rights of whoever started it, and no more than reading where
    the share is not writable. Raises HostError."""

    def __init__(self, share: ShareConfig, cpus: tuple[int, ...] = ()) -> None:
        self._line, theirs = socket.socketpair()
        self.fd = self._line.fileno()
        configuration = os.memfd_create("diod.conf")
        os.write(configuration, _exports(share))
        command = [find(), "--foreground", f"--rfdno={theirs.fileno()}", f"--wfdno={theirs.fileno()}", "--no-auth"]
        command += [f"--config-file=/proc/self/fd/{configuration}", "--logdest=stderr"]
        before = os.sched_getaffinity(0)
        try:
            # A process begins where its parent's thread runs, and this may be that of a pinned vCPU.
            if cpus:
                os.sched_setaffinity(0, cpus)
            self._process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno(), configuration],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is not for it
                cwd="/proc",  # where no core can be left: it asks for one, and a guest may send it what makes it crash
            )
        except OSError as error:
            self._line.close()
            raise HostError(f"cannot start {command[0]}: {error.strerror}") from error
        finally:
            theirs.close()
            os.close(configuration)
            if cpus:
                os.sched_setaffinity(0, before)

    def close(self) -> None:
        self._line.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _exports(share: ShareConfig) -> bytes:
    """As Lua, with every byte of the path in decimal. diod's option for it, --export-opts, is without effect; and that
    a folder is only read is not left to diod alone (csrc/p9.c)."""
    path = "".join(f"\\{byte:03}" for byte in os.fsencode(os.path.realpath(share.path)))
    return f'exports = {{ {{ path="{path}", opts="{"" if share.writable else "ro"}" }} }}\n'.encode()
