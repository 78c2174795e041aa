"""A vCPU's thread and its states."""

from __future__ import annotations

from corral import exits
from corral.enums import Enum
from corral.errors import HostError, KvmError
from corral.native import lib
from corral.threads import Condition, start_new_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.bus import Bus
    from corral.exits import MutableBytes
    from corral.kvm.vcpu import Vcpu
    from corral.native import CData

    Dispatch = Callable[[CData, MutableBytes, Bus, Bus], None]


class State(Enum):
    CREATED = "created"  # no thread yet, or one that has not come to its first step
    RUNNING = "running"  # inside the guest, or handling one of its exits
    PAUSED = "paused"  # its registers may be looked at and changed
    STOPPED = "stopped"  # ended by request or by the guest; its registers may be looked at
    FAILED = "failed"  # ended by an error of Corral's or a device's; `failure` has it


class VcpuThread:
    """Runs one vCPU. pause(), resume() and stop() may come from any thread, in any state, any number of times.

    `ended` is called once, on the vCPU's thread, when the guest ends by itself or the thread fails; before stop()
    returns.
    """

    def __init__(self, index: int, vcpu: Vcpu, ports: Bus, mmio: Bus, ended: Callable[[VcpuThread], None]) -> None:
        self.index = index
        self.vcpu = vcpu
        self.state = State.CREATED
        self.end: exits.GuestEnded | None = None
        self.failure: BaseException | None = None
        self._ports = ports
        self._mmio = mmio
        self.ended = ended
        self.dispatch: Dispatch = exits.dispatch  # changed only while the vCPU does not run
        self._changed = Condition()
        self._wanted = State.RUNNING
        self._started = False

    def start(self) -> None:
        """Once. Raises HostError when the host has no thread to give."""
        with self._changed:
            try:
                start_new_thread(self._main, ())
            except RuntimeError as error:
                raise HostError(f"no thread for vCPU {self.index}: see ulimit -u, or ask for fewer --cpus") from error
            self._started = True

    def pause(self) -> None:
        """Returns when the vCPU is out of the guest and stays out, or has ended."""
        self.request_pause()
        with self._changed:
            while self._started and self.state in (State.CREATED, State.RUNNING):
                self._changed.wait()

    def request_pause(self) -> None:
        """Begins to pause: many vCPUs are asked first and waited for after."""
        self._want(State.PAUSED)

    def resume(self) -> None:
        self._want(State.RUNNING)

    def stop(self) -> None:
        """Ends the thread and returns when it has ended."""
        self.request_stop()
        with self._changed:
            while self._started and self.state not in (State.STOPPED, State.FAILED):
                self._changed.wait()

    def request_stop(self) -> None:
        """Begins to end the thread, as request_pause() begins to pause."""
        self._want(State.STOPPED)

    def _want(self, state: State) -> None:
        with self._changed:
            if self._wanted is State.STOPPED:
                return
            self._wanted = state
            self._changed.notify_all()
        if state is not State.RUNNING:
            self.vcpu.kick()

    def _main(self) -> None:
        lib.corral_name_thread(f"vcpu{self.index}".encode())
        final = State.STOPPED
        try:
            run, run_page, page = self.vcpu.run, self.vcpu.run_page, self.vcpu.page
            while self._may_run():
                dispatch = self.dispatch
                while run():  # until kicked: whoever wants another state kicks
                    dispatch(run_page, page, self._ports, self._mmio)
        except exits.GuestEnded as end:
            self.end = end
        except KvmError as error:
            self.end = exits.GuestEnded(exits.Cause.INTERNAL_ERROR, str(error))
        except Exception as error:
            self.failure = error
            final = State.FAILED
        if self.end or self.failure:
            self.ended(self)  # while stop() still waits: whoever stopped the thread may take away what this needs
        with self._changed:
            self._wanted = State.STOPPED
            self.state = final
            self._changed.notify_all()

    def _may_run(self) -> bool:
        """Waits while paused. False: the thread shall end."""
        with self._changed:
            while self._wanted is State.PAUSED:
                self.state = State.PAUSED
                self._changed.notify_all()
                self._changed.wait()
            if self._wanted is State.STOPPED:
                return False
            self.state = State.RUNNING
            return True
