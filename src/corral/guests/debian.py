"""Debian packages as sources of files: found by apt, checked by apt, unpacked into the cache; no root needed."""

from __future__ import annotations

import errno
import os

from corral.errors import HostError
from corral.guests import cache, consent

TYPE_CHECKING = False
if TYPE_CHECKING:
    Options = tuple[str, ...]  # apt's, for sources that are not the host's own (apt_suite.py)

UPDATE = "apt-get update (as root)"
LOCK_TIMEOUT = 600  # seconds: another one may be installing


class AptError(HostError):
    """apt or dpkg did not do what it was told; `said` is all that it complained of."""

    def __init__(self, message: str, said: str) -> None:
        super().__init__(message)
        self.said = said


def candidate(package: str, options: Options = ()) -> str:
    """The version that apt would install. Raises HostError when apt is not there or does not know the package."""
    for line in _apt(["apt-cache", *options, "policy", package], package).splitlines():
        key, _, value = line.strip().partition(": ")
        if key == "Candidate" and value != "(none)":
            return value
    raise HostError(f"apt does not know the package {package}; refresh its lists: {UPDATE}")


def dependency(package: str, prefix: str, options: Options = ()) -> str:
    """The first dependency of `package` whose name begins with `prefix`: what a metapackage stands for today."""
    for name in dependencies(package, options):
        if name.startswith(prefix):
            return name
    raise HostError(f"the package {package} depends on no {prefix}...; refresh apt's lists: {UPDATE}")


def dependencies(package: str, options: Options = ()) -> list[str]:
    """What `package` depends on, of alternatives the last."""
    lines = _apt(["apt-cache", *options, "depends", package], package).splitlines()
    pairs = (line.strip().partition(": ") for line in lines)
    return [value for key, _, value in pairs if key == "Depends"]


def download(package: str, options: Options = ()) -> str:
    """The package and how large it is: "linux-source-6.1, 138 MB". Raises HostError as candidate() does."""
    shown = _apt(["apt-cache", *options, "show", "--no-all-versions", package], package)
    size = next((line.split()[1] for line in shown.splitlines() if line.startswith("Size: ")), "0")
    return f"{package}, {max(1, int(size) // 1_000_000)} MB"


def fetch(package: str) -> str:
    """The folder in the cache with the files of `package`, in apt's candidate version; downloaded at most once.

    Raises HostError: no apt, lists missing, download failed.
    """
    target = cache.folder("debian", f"{package}_{candidate(package).replace(':', '%3a')}")
    with cache.making(target) as unfinished:
        if unfinished:
            unpack(package, unfinished)
    return target


def file(package: str, pattern: str) -> str:
    """The file of `package` whose path ends like `pattern`, in whichever folder this release has it: "bin/busybox" may
    be in /bin or in /usr/bin. Raises HostError as fetch() does, and when there is none."""
    from fnmatch import fnmatchcase

    folder = fetch(package)
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(parent, name)
            if fnmatchcase(path, f"*/{pattern}") and not os.path.islink(path):
                return path
    raise HostError(f"the package {os.path.basename(folder)} has no file {pattern}")


def require_installed(packages: list[str], what_for: str) -> None:
    """Installs those of `packages` that are missing, when root and when that is wanted; else raises HostError naming
    them."""
    import subprocess

    query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *packages]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split("\n")
    except FileNotFoundError:
        raise HostError(f"{what_for} needs {', '.join(packages)}, as Debian calls them; install them") from None
    missing = [package for package in packages if f"{package} installed" not in found]
    if not missing:
        return
    needs = f"{what_for} needs Debian packages that are not installed: {' '.join(missing)}"
    if os.geteuid() != 0:
        raise HostError(f"{needs}; install them: sudo apt-get install {' '.join(missing)}")
    if not consent.given(f"{needs}. Install them by apt-get, with what they need themselves?"):
        raise HostError(
            f"{needs}; install them: apt-get install {' '.join(missing)}, or have Corral do it: --yes, "
            f"or {consent.VARIABLE}=1"
        )
    patience = ["-o", f"DPkg::Lock::Timeout={LOCK_TIMEOUT}"]
    command = ["apt-get", *patience, "install", "--yes", "--quiet=2", "--no-install-recommends", *missing]
    result = subprocess.run(
        command,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise HostError(f"cannot install {' '.join(missing)} for {what_for}: {_last_line(result.stderr)}; try {UPDATE}")


def unpack(package: str, into: str, options: Options = ()) -> None:
    """Downloads the package, in apt's candidate version, and adds its files to a folder."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # apt fetches as a user of its own
        _apt(["apt-get", *options, "download", f"{package}={candidate(package, options)}"], package, folder)
        (deb,) = (os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".deb"))
        _apt(["dpkg-deb", "--extract", deb, into], package)


def _apt(command: list[str], package: str, folder: str | None = None) -> str:
    """What the command prints. Raises HostError with its last word when it fails."""
    import subprocess

    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError as error:
        raise HostError(f"no {command[0]} on this host, so {package} can't be had; name your own kernel") from error
    if done.returncode:
        full = next((line for line in done.stderr.splitlines() if os.strerror(errno.ENOSPC) in line), "")
        cure = "free some space in XDG_CACHE_HOME and TMPDIR" if full else f"try {UPDATE}"
        message = f"{command[0]} cannot get {package}: {_last_line(full or done.stderr)}; {cure}"
        raise AptError(message, done.stderr)
    return done.stdout


def output(command: list[str], what: str) -> str:
    """What a command of apt's prints. Raises HostError, AptError: cannot get `what`."""
    return _apt(command, what)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it does not say why"])[-1].removeprefix("E: ")
