"""corral.Sandbox: a guest to run things in, from Python. It is a process of its own (docs/background.md), which ends
with this one."""

from __future__ import annotations

import itertools
import os
import time
from typing import overload

from corral.agent import command as commands
from corral.agent.connection import AgentError, Connection
from corral.agent.files import GuestFiles
from corral.agent.forward import Forward
from corral.errors import ClosedError, ConfigError, GuestTimeout
from corral.running import place, saving
from corral.running import start as starting
from corral.script.process import MOST_OUTPUT, CommandFailed, Process, Result
from corral.script.sandbox_network import Network
from corral.script.sandbox_network import words as network_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Literal, Self

    from corral.script.process import Words

READY = 120.0  # seconds until the agent answers: an interpreted kernel takes that long
MOST_FORKS = 100  # of one call: each is a process
_IDLE = ("--", "sleep", "2147483647")  # what a container does until its sandbox is closed
_ENDS = 5.0  # seconds that a killed process takes at most
_numbers = itertools.count(1)


class Sandbox:
    """A guest, which runs when this returns. A context manager; it ends with close(), and with this process.

    `system` is what `corral boot` takes: None for Corral's small Linux, "debian", "ubuntu:noble", a kernel's path.
    `memory` is like "1G" or a number of MiB. `options` are further words of `corral boot`, like ["--disk", "data.img"].
    `name`: by which `corral exec` and others find it; without one it gets its own. `snapshot`: a file to go on from,
    which snapshot() or `corral snapshot NAME FILE` has made: all of the guest is in there, but for its ends. `image`: a
    container image as `corral run` takes it, which has a program `sleep`; `options` are words of `corral run` then.
    `nets`, `publish`, `allow` and `deny` are what follows --net and so on, one each or many; without them it has no
    network, and with a network and no rule it connects nowhere until `network` allows it. Raises ConfigError,
    BootError, HostError, GuestError, GuestTimeout.
    """

    def __init__(
        self,
        system: str | None = None,
        *,
        memory: str | int | None = None,
        cpus: int | None = None,
        options: Sequence[str] = (),
        name: str | None = None,
        snapshot: str | os.PathLike[str] | None = None,
        image: str | None = None,
        timeout: float = READY,
        nets: Words = (),
        publish: Words = (),
        allow: Words = (),
        deny: Words = (),
    ) -> None:
        if snapshot is not None and (system, memory, cpus) != (None, None, None):
            raise ConfigError("a snapshot has its system, memory and cpus; leave those out")
        if image is not None and (system, snapshot) != (None, None):
            raise ConfigError("a sandbox has a system, a snapshot or an image; leave two out")
        self.system, self.name = system or image, place.check_name(name) if name else _new_name()
        self._temporary = name is None
        self._ports: dict[int, Forward] = {}
        words = [system] if system is not None else []
        words += ["--restore", os.fspath(snapshot)] if snapshot is not None else []
        words += ["--name", self.name]
        words += ["--memory", str(memory)] if memory is not None else []
        words += ["--cpus", str(cpus)] if cpus is not None else []
        words += network_words(nets, publish, allow, deny, options)
        self.notices: list[str] = []  # what `corral boot` said
        lifeline, self._lifeline = os.pipe()
        self.closed = False
        try:
            command = ["boot", *words, *options] if image is None else ["run", *words, *options, image, *_IDLE]
            self._process = starting.start(self.name, command, lifeline, self.notices.append)
        except BaseException:
            os.close(self._lifeline)
            self._forget()
            raise
        finally:
            os.close(lifeline)
        self._path = os.path.join(place.folder(self.name), place.VSOCK)
        self.files = GuestFiles(self._connect)
        self.network = Network(self.name)
        try:
            self._await_agent(timeout)
        except BaseException:
            self.close()
            raise

    def _await_agent(self, timeout: float) -> None:
        until = time.monotonic() + timeout
        while True:
            try:
                Connection(self._path, min(until, time.monotonic() + 1.0)).close()
                return
            except (AgentError, GuestTimeout) as error:
                ended = _has_ended(self._process, _ENDS if isinstance(error, AgentError) else 0.0)
                if ended:
                    raise AgentError(f"the guest ended before its agent answered; {self._last_message()}") from None
                if isinstance(error, AgentError):
                    raise
                if time.monotonic() >= until:
                    raise GuestTimeout(f"the guest's agent did not answer within {timeout:g} s") from None

    def _last_message(self) -> str:
        try:
            with open(os.path.join(place.folder(self.name), place.SAID), encoding="utf-8", errors="replace") as file:
                return (file.read().strip().splitlines() or ["it said nothing"])[-1]
        except OSError:
            return "it said nothing"

    def _connect(self) -> Connection:
        if self.closed:
            raise ClosedError("this sandbox is closed")
        return Connection(self._path, time.monotonic() + 30)

    def popen(
        self,
        command: Words,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str = "",
        timeout: float | None = None,
    ) -> Process:
        """Starts a command: a text is a line for the guest's shell, a list a program and its arguments. After `timeout`
        seconds it is killed with all that it has started. Raises agent.connection.Refused where it cannot start."""
        wanted = commands.wanted(command, env, cwd, user, None, timeout)
        return Process(self._connect(), wanted, command)

    @overload
    def run(
        self,
        command: Words,
        *,
        input: bytes | str = ...,
        env: Mapping[str, str] | None = ...,
        cwd: str | None = ...,
        user: str = ...,
        timeout: float | None = ...,
        check: bool = ...,
        stream: Literal[False] = ...,
    ) -> Result: ...

    @overload
    def run(
        self,
        command: Words,
        *,
        input: bytes | str = ...,
        env: Mapping[str, str] | None = ...,
        cwd: str | None = ...,
        user: str = ...,
        timeout: float | None = ...,
        check: bool = ...,
        stream: Literal[True],
    ) -> Iterator[str]: ...

    def run(
        self,
        command: Words,
        *,
        input: bytes | str = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str = "",
        timeout: float | None = None,
        check: bool = False,
        stream: bool = False,
    ) -> Result | Iterator[str]:
        """Runs a command to its end, as popen() does; with `stream` it gives lines of standard output as they come.
        Raises GuestTimeout when it was killed after `timeout` seconds, AgentError when it wrote more than 256 MiB,
        CommandFailed with `check` when its status was not 0."""
        if stream:
            return self._lines(self.popen(command, env=env, cwd=cwd, user=user, timeout=timeout), input, check)
        wanted = commands.wanted(command, env, cwd, user, None, timeout, MOST_OUTPUT)
        began = time.monotonic()
        with Process(self._connect(), wanted, command) as process:
            output, errors = process.communicate(input)
            status = process.returncode
        assert status is not None
        took = time.monotonic() - began
        texts = output.decode("utf-8", "replace"), errors.decode("utf-8", "replace")
        result = Result(process.args, status, *texts, took)
        if check and status:
            raise CommandFailed(result)
        return result

    def _lines(self, process: Process, input: bytes | str, check: bool) -> Iterator[str]:
        began = time.monotonic()
        with process:
            if input:
                process.write(input)
            process.close_stdin()
            yield from process
            status = process.wait()
            if check and status:
                errors = process.communicate()[1].decode("utf-8", "replace")
                raise CommandFailed(Result(process.args, status, "", errors, time.monotonic() - began))

    def port(self, inside: int) -> str:
        """The URL of an address of this host that leads to TCP port `inside` of the guest, as long as the sandbox is
        open."""
        if inside not in self._ports:
            self._ports[inside] = Forward(self._connect, inside)
        return self._ports[inside].url

    def snapshot(self, path: str | os.PathLike[str], timeout: float = saving.PATIENCE) -> int:
        """Saves the guest to a file, and it goes on, its commands too; returns how many bytes of RAM and layers of
        disks are in it. Raises ConfigError for what cannot be saved and a place where something else is, HostError,
        GuestTimeout after so many seconds."""
        return saving.save(self._guest(), os.fspath(path), timeout)

    def fork(self, count: int = 1, name: str | None = None, timeout: float = saving.PATIENCE) -> list[Sandbox]:
        """Sandboxes that go on from where this one is, called `name`-1 and so on, each a process of its own; what ran
        here runs in each, but for its connections. Raises as snapshot()."""
        if not 1 <= count <= MOST_FORKS:
            raise ConfigError(f"fork({count}): 1 to {MOST_FORKS}")
        names = [None if name is None else f"{name}-{number}" for number in range(1, count + 1)]
        fd = os.memfd_create("corral-fork", os.MFD_CLOEXEC)
        made: list[Sandbox] = []
        try:
            saving.save_into(self._guest(), fd, timeout)
            for own in names:
                made.append(Sandbox(snapshot=f"/proc/{os.getpid()}/fd/{fd}", name=own, timeout=timeout))
        except BaseException:
            for one in made:
                one.close()
            raise
        finally:
            os.close(fd)
        return made

    def _guest(self) -> place.RunningGuest:
        if self.closed:
            raise ClosedError("this sandbox is closed")
        return place.running(self.name)

    def close(self) -> None:
        """Ends the guest at once. Does nothing the second time."""
        if self.closed:
            return
        self.closed = True
        for forward in self._ports.values():
            forward.close()
        os.close(self._lifeline)
        if not _has_ended(self._process, _ENDS):
            self._process.kill()
            self._process.wait()
        self._forget()

    def _forget(self) -> None:
        """Removes what is left of one whose name was not given."""
        if self._temporary and os.path.isdir(place.folder(self.name)):
            place.remove(place.find(self.name))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "running"
        return f"<Sandbox {self.name}, {self.system or 'the small Linux'}, {state}>"


def _has_ended(process: subprocess.Popen[bytes], patience: float) -> bool:
    import subprocess

    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        return False
    return True


def _new_name() -> str:
    return f"sandbox-{os.getpid()}-{next(_numbers)}"
