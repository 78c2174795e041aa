"""What a guest's Linux has, told without drgn: messages, tasks, modules, open files, sockets.

Messages need symbols alone. The rest needs the kernel's types: Debian's kernels have them in their memory, and those of
the small kernel come with its debug information (corral kernel debuginfo).
"""

from __future__ import annotations

import os

from corral.errors import BootError, ConfigError
from corral.guests import kernel_debuginfo
from corral.introspect import files, messages, vmcoreinfo
from corral.introspect.kernel import DamagedKernel, GuestKernel, find
from corral.introspect.types import MOST, BadTypes, Types
from corral.memory import GuestMemoryError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from corral.introspect.files import GuestSocket, OpenFile
    from corral.introspect.messages import Message
    from corral.introspect.subject import Subject

    Value = TypeVar("Value")

_COMM = 16  # bytes: TASK_COMM_LEN
_NAME = 56  # bytes: MODULE_NAME_LEN
_STATES = {0: "running", 1: "sleeping", 2: "waiting", 4: "stopped", 8: "traced", 0x402: "idle"}
MOST_TASKS = 1 << 16


@record(frozen=True)
class GuestTask:
    """A thread. `address` is that of its struct task_struct; `process` the number of its process, `parent` that of the
    parent's, 0 for none; `is_kernel`: a thread of the kernel's own."""

    HEX = ("address",)

    address: int
    pid: int
    process: int
    parent: int
    name: str
    state: str
    is_kernel: bool


@record(frozen=True)
class LoadedModule:
    """`base` is where its code is, `size` how many bytes of it there are."""

    HEX = ("address", "base")

    address: int
    name: str
    base: int
    size: int


class Linux:
    """`subject` gives what is looked into, when it is first asked. All methods raise NotLinux where no Linux is there,
    BadTypes where its types are not known, DamagedKernel for what makes no sense. A guest that runs meanwhile changes
    what is read, so that a list of it may be told half, or raise DamagedKernel: pause it first where that matters."""

    def __init__(self, subject: Callable[[], Subject]) -> None:
        self._subject = subject
        self._kernel: GuestKernel | None = None
        self._types: Types | None = None
        self._state = "__state"  # the member of a task; before Linux 5.14 it had no underscores

    def use(self, kernel: GuestKernel, types: Types) -> None:
        """These, which the caller has found already."""
        self._kernel, self._types = kernel, types

    @property
    def kernel(self) -> GuestKernel:
        if self._kernel is None:
            self._kernel = find(self._subject())
        return self._kernel

    @property
    def types(self) -> Types:
        if self._types is None:
            self._types = types_of(self.kernel)
        return self._types

    @property
    def release(self) -> str:
        """As `uname -r` tells it."""
        return vmcoreinfo.release(self.kernel)

    def dmesg(self) -> list[Message]:
        """The messages that the kernel still has, oldest first."""
        return messages.read(self.kernel)

    def tasks(self) -> list[GuestTask]:
        """All threads, those of the kernel's own too, by the order of their processes."""
        return self._told("tasks", lambda: list(self._tasks()))

    def modules(self) -> list[LoadedModule]:
        """Those that are loaded, the last one first."""
        return self._told("modules", lambda: list(self._modules()))

    def files(self, task: GuestTask | int) -> list[OpenFile]:
        """What a task, or the one with that number, has open. Raises ConfigError for a number that there is not."""
        found = self._task(task)
        return self._told("open files", lambda: files.of_task(self.kernel, self.types, found.address))

    def sockets(self) -> list[GuestSocket]:
        """Of all processes."""
        return self._told("sockets", lambda: list(self._sockets()))

    def _told(self, what: str, read: Callable[[], Value]) -> Value:
        try:
            return read()
        except GuestMemoryError as error:
            raise DamagedKernel(f"the {what} of the guest's kernel cannot be read: {error}") from None

    def _task(self, task: GuestTask | int) -> GuestTask:
        if isinstance(task, GuestTask):
            return task
        found = next((one for one in self.tasks() if one.pid == task), None)
        if found is None:
            raise ConfigError(f"the guest has no task {task}; tasks() has all")
        return found

    def _sockets(self) -> Iterator[GuestSocket]:
        seen = set()
        for task in self.tasks():
            if task.is_kernel or task.pid != task.process:
                continue
            for one in self.files(task):
                if one.socket and one.socket.address not in seen:
                    seen.add(one.socket.address)
                    yield one.socket

    def _tasks(self) -> Iterator[GuestTask]:
        kernel, offset = self.kernel, self.types.offset
        self._state = "__state" if self.types.has_member("task_struct", "__state") else "state"
        tasks, group = offset("task_struct", "tasks"), offset("task_struct", "thread_node")
        signal, head = offset("task_struct", "signal"), offset("signal_struct", "thread_head")
        first = kernel.symbol("init_task")
        yield self._told_task(first)
        count = 0
        for leader in kernel.listed(first + tasks, tasks):
            for task in kernel.listed(kernel.u64(leader + signal) + head, group):
                yield self._told_task(task)
                count += 1
                if count > MOST_TASKS:
                    raise DamagedKernel(f"the guest has more than {MOST_TASKS} tasks, or its memory is damaged")

    def _told_task(self, at: int) -> GuestTask:
        kernel, offset = self.kernel, self.types.offset
        name = self._state
        state = kernel.u32(at + offset("task_struct", name))
        parent = kernel.u64(at + offset("task_struct", "real_parent"))
        ended = kernel.u32(at + offset("task_struct", "exit_state"))
        return GuestTask(
            at,
            kernel.u32(at + offset("task_struct", "pid")),
            kernel.u32(at + offset("task_struct", "tgid")),
            kernel.u32(parent + offset("task_struct", "tgid")) if parent != at else 0,
            kernel.text(at + offset("task_struct", "comm"), _COMM),
            "ended" if ended else _STATES.get(state & 0x40F, _STATES.get(state & 0xF, f"{state:#x}")),
            not kernel.u64(at + offset("task_struct", "mm")),
        )

    def _modules(self) -> Iterator[LoadedModule]:
        kernel, types = self.kernel, self.types
        if not kernel.has("modules") or not types.has_member("module", "list"):
            return  # built without
        old = types.has_member("module", "core_layout")
        layout = ("core_layout",) if old else ("mem",)
        inner = "module_layout" if old else "module_memory"
        at, (base, size) = types.offset("module", *layout), (types.offset(inner, name) for name in ("base", "size"))
        for module in kernel.listed(kernel.symbol("modules"), types.offset("module", "list")):
            name = kernel.text(module + types.offset("module", "name"), _NAME)
            yield LoadedModule(module, name, kernel.u64(module + at + base), kernel.u32(module + at + size))


def types_of(kernel: GuestKernel) -> Types:
    """Those in the kernel's memory, or of its debug information. Raises BadTypes."""
    if kernel.has("__start_BTF") and kernel.has("__stop_BTF"):
        start, end = kernel.symbol("__start_BTF"), kernel.symbol("__stop_BTF")
        if 0 < end - start <= MOST:
            try:
                return Types(kernel.read(start, end - start))
            except GuestMemoryError as error:
                raise BadTypes(f"the types of the guest's kernel cannot be read: {error}") from None
    identity = vmcoreinfo.build_id(kernel)
    info = kernel_debuginfo.find(identity) if identity else None
    if info is None or info.types is None:
        raise BadTypes("the types of this kernel are not known; have them made: corral kernel debuginfo")
    try:
        if os.path.getsize(info.types) > MOST:
            raise BootError(f"{info.types!r} is too large; remove it")
        with open(info.types, "rb") as file:
            return Types(file.read())
    except OSError as error:
        raise BadTypes(f"{info.types!r}: {error.strerror}; remove its folder, and have it made anew") from None
