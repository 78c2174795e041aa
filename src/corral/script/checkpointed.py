"""A machine that goes back to moments of its own (docs/rewind.md)."""

from __future__ import annotations

from corral.errors import ConfigError
from corral.machine import Machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import MachineConfig
    from corral.snapshot.checkpoints import Checkpoint, Checkpoints
    from corral.startup.undo import Undo


class CheckpointedMachine(Machine):
    def _build(self, config: MachineConfig, undo: Undo) -> None:
        self._checkpoints: Checkpoints | None = None
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
        if not self.started or any(thread.end or thread.failure for thread in self.threads):
            raise ConfigError("only a guest that has started and has not ended can be taken a checkpoint of")
        if self._checkpoints is None:
            from corral.snapshot.checkpoints import Checkpoints

            self._checkpoints = Checkpoints(self)
        return self._checkpoints.take()

    def reset(self, checkpoint: Checkpoint | None = None) -> None:
        """Brings the guest back to a checkpoint in place, to the last that it was at when none is given; it is paused
        then. Raises ConfigError for a checkpoint that is not this machine's, GuestError, HostError."""
        self.pause()
        if self._checkpoints is None:
            raise ConfigError("this machine has no checkpoint; take one: vm.checkpoint()")
        self._checkpoints.reset(checkpoint)
