"""A vCPU's thread and its states."""

from __future__ import annotations

import os

from corral.core import exits
from corral.errors import ConfigError, HostError, KvmError
from corral.kvm.vcpu import HOOKED
from corral.native import check, lib
from corral.startup.enums import Enum
from corral.startup.threads import Condition, get_native_id, start_new_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from corral.core.bus import Bus
    from corral.kvm.vcpu import Vcpu
    from corral.native import CData

    class Attached(Protocol):
        """The hooks of the machine (hooks.py)."""

        def dispatch(self, thread: VcpuThread) -> None:
            """Handles the exit that `thread` is at. Raises what the handling of it raises, GuestEnded for one."""


class State(Enum):
    CREATED = "created"  # no thread yet, or one that has not come to its first step
    RUNNING = "running"  # inside the guest, or handling one of its exits
    PAUSED = "paused"  # its registers may be looked at and changed
    STOPPED = "stopped"  # ended by request or by the guest; its registers may be looked at
    FAILED = "failed"  # ended by an error of Corral's or a device's; `failure` has it


class VcpuThread:
    """Runs one vCPU. pause(), resume() and stop() may come from any thread, in any state, any number of times.

    `cpus` are the host's CPUs that it may run on, () for any. `ended` is called once, on the vCPU's thread, when the
    guest ends by itself or the thread fails; before stop() returns.
    """

    def __init__(
        self,
        index: int,
        vcpu: Vcpu,
        ports: Bus,
        mmio: Bus,
        ended: Callable[[VcpuThread], None],
        cpus: tuple[int, ...] = (),
    ) -> None:
        self.index = index
        self.vcpu = vcpu
        self.cpus = cpus
        self.tid = 0  # the host's number of the thread, once it runs
        self.state = State.CREATED
        self.end: exits.GuestEnded | None = None
        self.failure: BaseException | None = None
        self._ports = ports
        self._mmio = mmio
        self.hooks: Attached  # is there when run() comes back for hooks: they put themselves here
        self._ended = ended
        self._changed = Condition()
        self._wanted = State.RUNNING
        self._started = False

    def __repr__(self) -> str:
        return f"<VcpuThread {self.index}, {self.state.value}>"

    @property
    def is_free(self) -> bool:
        """Whether it is to run: it was asked neither to pause nor to stop."""
        return self._wanted is State.RUNNING

    def start(self) -> None:
        """Once; nothing happens after stop(). Raises HostError when the host has no thread to give."""
        with self._changed:
            if self._wanted is State.STOPPED:
                return
            try:
                start_new_thread(self._main, ())
            except RuntimeError as error:
                cure = "see ulimit -u and pids.max, or ask for fewer --cpus"
                raise HostError(f"no thread for vCPU {self.index}; {cure}") from error
            self._started = True

    def pause(self) -> None:
        """Returns when the vCPU is out of the guest and stays out, or has ended. Raises ConfigError on its thread."""
        self.require_another_thread()
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
        """Ends the thread and returns when it has ended. Raises ConfigError on that thread itself."""
        self.require_another_thread()
        self.request_stop()
        with self._changed:
            while self._started and self.state not in (State.STOPPED, State.FAILED):
                self._changed.wait()

    def revive(self) -> None:
        """Of a guest that has ended by itself, once the thread is over: another begins, and is paused. The vCPU is as
        it was at the end. Raises HostError as start() does."""
        with self._changed:
            if self.end is None or self.state is not State.STOPPED:
                return
            self.end, self._started = None, False
            self.state, self._wanted = State.CREATED, State.PAUSED
        self.start()
        self.pause()

    def request_stop(self) -> None:
        """Begins to end the thread, as request_pause() begins to pause."""
        self._want(State.STOPPED)

    def require_another_thread(self) -> None:
        """Raises ConfigError for a device or a hook that wants to wait for the vCPU that called it."""
        if self.state is State.RUNNING and self.tid == get_native_id():
            raise ConfigError(f"vCPU {self.index} cannot wait for itself: a device or hook returns first")

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
            if self.cpus:
                os.sched_setaffinity(0, self.cpus)
            self.tid = get_native_id()
            self.vcpu.held(self._run)
        except exits.GuestEnded as end:
            self.end = end
        except KvmError as error:
            self.end = exits.GuestEnded(exits.Cause.INTERNAL_ERROR, str(error))
        except Exception as error:
            self.failure = error
            final = State.FAILED
        if self.end or self.failure:
            self._ended(self)  # while stop() still waits: its caller may take away what this needs
        with self._changed:
            self._wanted = State.STOPPED
            self.state = final
            self._changed.notify_all()

    def _run(self, native: CData) -> None:
        run, run_page, page = self.vcpu.run, self.vcpu.run_page, self.vcpu.page
        dispatch, ports, mmio = exits.dispatch, self._ports, self._mmio
        while self._may_run():
            check("seccomp", lib.corral_jail_enter(lib.CORRAL_JAIL_VCPU))
            while why := run():  # until kicked: a change of the wanted state kicks
                if why == HOOKED:
                    self.hooks.dispatch(self)
                else:
                    dispatch(run_page, page, ports, mmio)

    def handle_exit(self) -> None:
        """Handles an exit that hooks have seen, in C or in Python. On the vCPU's thread."""
        if not self.vcpu.finish():
            exits.dispatch(self.vcpu.run_page, self.vcpu.page, self._ports, self._mmio)

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
