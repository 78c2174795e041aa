"""ssh into a guest without a network there: its agent starts an sshd for each connection, and that speaks over the
agent's. Keys are this guest's own; they, and what ssh has to know, lie in a folder of the host."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import sys

from corral.agent.connection import Refused
from corral.errors import ConfigError, HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.agent.files import GuestFiles

KEY, KNOWN, _LOCK = "ssh-key", "ssh-known", "ssh-lock"  # in the folder
SERVER = "/usr/sbin/sshd"
_THERE = "/run/corral/ssh"  # in the guest; in memory, so that its disk stays as it is
_OPTIONS = (
    f"HostKey={_THERE}/host_key",
    f"AuthorizedKeysFile={_THERE}/user_key.pub .ssh/authorized_keys",
    "PermitRootLogin=prohibit-password",
    "PasswordAuthentication=no",
    "LogLevel=ERROR",
)
# sshd for one connection, on its standard input and output.
SERVE = (SERVER, "-i", "-e", *(word for option in _OPTIONS for word in ("-o", option)))


def prepare(name: str, folder: str, files: GuestFiles) -> None:
    """Makes keys and gives the guest its share of them, once. Raises ConfigError for a guest without sshd, HostError
    for a host without ssh, AgentError, GuestTimeout."""
    for program in "ssh", "ssh-keygen":
        if not shutil.which(program):
            raise HostError(f"no {program}, which corral ssh needs; install it: apt-get install openssh-client")
    with open(os.path.join(folder, _LOCK), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(os.path.join(folder, KNOWN)):
            _give_keys(name, folder, files)


def _give_keys(name: str, folder: str, files: GuestFiles) -> None:
    try:
        files.stat(SERVER)
    except Refused:
        raise ConfigError(
            f"the guest {name!r} has no sshd; corral exec -it {name} -- sh is a shell there; Corral's debian and "
            "ubuntu have it, and others have it by their package openssh-server"
        ) from None
    host_key, key = os.path.join(folder, "ssh-host-key"), os.path.join(folder, KEY)
    try:
        for path in host_key, key:
            _make_key(path)
        files.mkdir("/run/sshd")  # where it has no rights; sshd(8) wants it
        files.mkdir(_THERE)
        with open(host_key, "rb") as file:
            files.write(f"{_THERE}/host_key", file.read(), 0o600)
        with open(f"{key}.pub", "rb") as file:
            files.write(f"{_THERE}/user_key.pub", file.read())
        with open(f"{host_key}.pub", encoding="ascii") as file:
            known = f"{name} {file.read()}"
    except Refused as refused:
        raise ConfigError(f"the guest {name!r} does not take the keys: {refused}") from None
    finally:
        for left in host_key, f"{host_key}.pub":
            if os.path.exists(left):
                os.unlink(left)
    with open(os.path.join(folder, KNOWN), "w", encoding="ascii") as file:
        file.write(known)


def _make_key(path: str) -> None:
    """ed25519, without a passphrase: the folder is this user's alone."""
    import subprocess

    for left in path, f"{path}.pub":  # of one that was killed
        if os.path.exists(left):
            os.unlink(left)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "corral", "-f", path]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostError(f"ssh-keygen makes no key: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")


def options(name: str, folder: str, user: str) -> tuple[str, ...]:
    """For the host `name` as ssh_config(5) has them, after prepare(); `user` is as whom it is entered. Raises
    ConfigError."""
    proxy = shlex.join([sys.executable, "-P", "-m", "corral", "ssh", "--proxy", name]).replace("%", "%%")
    return (
        f"HostName {name}",
        f"HostKeyAlias {name}",
        f"User {user}",
        f"ProxyCommand {proxy}",
        f"IdentityFile {_quoted(os.path.join(folder, KEY))}",
        "IdentitiesOnly yes",
        f"UserKnownHostsFile {_quoted(os.path.join(folder, KNOWN))}",
        "GlobalKnownHostsFile none",
        "StrictHostKeyChecking yes",
        "LogLevel ERROR",
    )


def _quoted(path: str) -> str:
    if '"' in path or "\n" in path:
        raise ConfigError(f"{path!r}: ssh takes no such path; set XDG_RUNTIME_DIR to another folder")
    return '"' + path.replace("%", "%%") + '"'
