"""The 9P server of a shared folder: a diod for each, which speaks over a socket of Corral's and ends with it.

diod follows "..", slashes in names and links out of what it exports, so it runs in a mount namespace (bubblewrap) where
there is nothing else: its libraries, and the folder, which the host's kernel keeps from being written unless it may be.
"""

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
LIBRARIES = ("/usr", "/lib", "/lib64", "/bin", "/sbin")
USERS = ("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/ld.so.cache")


def find() -> tuple[str, str]:
    """The paths of bubblewrap and of diod. Raises HostError."""
    found = []
    for program, package in (("bwrap", "bubblewrap"), ("diod", "diod")):
        path = shutil.which(program) or shutil.which(program, path=SEARCHED)
        if not path:
            raise HostError(f"sharing a folder with a guest needs {program}; install it: apt-get install {package}")
        found.append(path)
    return found[0], found[1]


class FolderServer:
    """One that runs; `fd` is a connected socket. With the rights of whoever started it, in that folder. Raises
    HostError."""

    def __init__(self, share: ShareConfig, cpus: tuple[int, ...] = ()) -> None:
        wrapper, server = find()
        self._line, theirs = socket.socketpair()
        self.fd = self._line.fileno()
        configuration = os.memfd_create("diod.conf")
        os.write(configuration, _exports(share))
        command = [wrapper, *_view(share), server, "--foreground", "--no-auth", "--logdest=stderr"]
        command += [f"--rfdno={theirs.fileno()}", f"--wfdno={theirs.fileno()}"]
        command += [f"--config-file=/proc/self/fd/{configuration}"]
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
            )
        except OSError as error:
            self._line.close()
            raise HostError(f"cannot start {wrapper}: {error.strerror}") from error
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


def _view(share: ShareConfig) -> list[str]:
    """bubblewrap's words for what the server sees; what is mounted later is on top."""
    words = ["--die-with-parent", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    for path in LIBRARIES:
        if os.path.islink(path):
            words += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            words += ["--ro-bind", path, path]
    for path in USERS:
        words += ["--ro-bind-try", path, path]
    folder = os.path.realpath(share.path)
    words += ["--bind" if share.writable else "--ro-bind", folder, folder, "--proc", "/proc", "--dev", "/dev"]
    # Where no core can be left: diod asks for one, and a guest may send it what makes it crash.
    return [*words, "--chdir", "/proc", "--"]


def _exports(share: ShareConfig) -> bytes:
    """As Lua, with every byte of the path in decimal. diod's option for it, --export-opts, is without effect."""
    path = "".join(f"\\{byte:03}" for byte in os.fsencode(os.path.realpath(share.path)))
    return f'exports = {{ {{ path="{path}", opts="{"" if share.writable else "ro"}" }} }}\n'.encode()
