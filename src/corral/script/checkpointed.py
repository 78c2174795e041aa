"""A machine that goes back to moments of its own (docs/rewind.md)."""

from __future__ import annotations

import time

from corral.core.vcpu_thread import State
from corral.errors import ConfigError
from corral.machine import Machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import MachineConfig
    from corral.debug.debugger import Debugger
    from corral.script.jailed import ScriptJail
    from corral.script.moments import Moments
    from corral.snapshot.checkpoints import Checkpoint, Checkpoints
    from corral.startup.undo import Undo


class CheckpointedMachine(Machine):
    _jail: ScriptJail | None = None
    _debugger: Debugger | None = None

    def _build(self, config: MachineConfig, undo: Undo) -> None:
        self._checkpoints: Checkpoints | None = None
        self._moments: Moments | None = None
        undo.push(self._drop_checkpoints)  # the last: nothing writes memory any more
        super()._build(config, undo)

    def _drop_checkpoints(self) -> None:
        if self._checkpoints:
            self._checkpoints.close()

    def checkpoint(self) -> Checkpoint:
        """This moment, for reset(); the guest is paused then. The first copies all memory that the guest has touched,
        the others what it has written since. Raises ConfigError for a machine that cannot go back, GuestError,
        HostError."""
        self.pause()
        if self._jail:
            raise ConfigError("a guest in a jail cannot be taken a checkpoint of yet; leave the jail out")
        points = self._debugger.points if self._debugger else ()
        if any(point.gpa is not None and not point.kind.executes for point in points):
            raise ConfigError("this host's KVM watches memory by slots of their own: remove the watchpoints first")
        if not self.started or any(thread.end or thread.failure for thread in self.threads):
            raise ConfigError("only a guest that has started and has not ended can be taken a checkpoint of")
        if self._checkpoints is None:
            from corral.snapshot.checkpoints import Checkpoints

            self._checkpoints = Checkpoints(self)
        return self._checkpoints.take()

    def reset(self, checkpoint: Checkpoint | None = None) -> None:
        """Brings the guest back to a checkpoint in place, to the last that it was at when none is given; it is paused
        then. One that has ended lives again. What it has said to its console, and what was sent to it, stays said.
        Raises ConfigError for a checkpoint that is not this machine's, BootError for page tables that lead nowhere,
        GuestError, HostError, and what a device or a hook has failed with."""
        self.require_open()
        if self._checkpoints is None:
            raise ConfigError("this machine has no checkpoint; take one: vm.checkpoint()")
        if any(thread.state is not State.PAUSED for thread in self.threads):
            self.pause()
        self.raise_failure()
        if any(thread.end for thread in self.threads):
            self._revive()
        self._checkpoints.reset(checkpoint)

    def _revive(self) -> None:
        for thread in self.threads:
            thread.revive()
        self._ended.clear()
        self.outcome = None

    def remember(self, seconds: float = 30.0, every: float = 0.1, most: int = 1 << 30) -> None:
        """From now on, while run_until() or wait() runs the guest, keeps a checkpoint `every` so many seconds, for the
        last `seconds` in which it ran, in up to `most` bytes; 0 seconds: keeps none any more. Raises what checkpoint()
        does, and ConfigError for numbers that make no sense."""
        from corral.script.moments import Moments

        self.require_open()
        moments = Moments(seconds, every, most) if seconds else None
        if moments:
            moments.keep(self.checkpoint())
        self._moments = moments

    def back(self, seconds: float) -> float:
        """Goes back by so many seconds of the guest's, or a little more: to the youngest moment that is so old. Returns
        by how many; the moments after it are gone. Raises ConfigError where none is kept that is so old, and what
        reset() does."""
        self.pause()
        if self._moments is None:
            raise ConfigError("this machine remembers no moments; have it begin: vm.remember(30)")
        self._moments.stands()
        age, moment = self._moments.before(seconds)
        self.reset(moment)
        return age

    def _limits(self, deadline: float | None, most: float | None) -> list[float]:
        """Seconds, each of which bounds how long the guest is not looked at."""
        limits = [] if most is None else [most]
        if deadline is not None:
            limits.append(max(0.0, deadline - time.monotonic()))
        if self._moments:
            self._moments.goes_on()
            limits.append(self._moments.left)
        return limits

    def _keep_moment(self) -> None:
        """If one is due; the guest is paused then, and for who runs it to go on."""
        if (
            self._moments
            and not self._moments.left
            and not any(thread.end or thread.failure for thread in self.threads)
        ):
            self._moments.stands()
            self._moments.keep(self.checkpoint())
