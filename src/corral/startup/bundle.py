"""The bytecode of Corral's modules in one file, for the `corral` command.

A start imports fifty small modules. To find and open a file for each takes longer than to run them where files are
slow: a network's, a container's layers, a cold cache. The bundle lies beside Python's own bytecode files and follows
their rules: made by the first run that may write there, and a module whose source has changed since is not taken from
it. Nothing needs it: what cannot be read is passed over.

It has all modules of all commands that ever ran, more than a start needs, so it is mapped and not read: Python's
magic number, the sizes of two parts, an index, and the bytecode that this has the places of.

It also knows which modules came with a command's, each behind those that it imports. They are run in this order,
without Python's import system, which takes a fifth of the time of importing them.
"""

from __future__ import annotations

import gc
import marshal
import mmap
import os
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER, cache_from_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType
    from typing import NoReturn

    About = tuple[str, int, int, bool]  # source, its size and time of change (ns), is a package
    Entry = tuple[str, int, int, bool, int, int]  # the same, and the place and size of its bytecode
    Code = bytes | memoryview

_SIZE = 4  # bytes of a size
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Bundle:
    """A finder and loader for `sys.meta_path`, over the bundle in the file `path`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._entries: dict[str, Entry] = {}
        self._orders: dict[str, list[str]] = {}  # by the module that was imported: what came with it, and itself last
        self._learned: dict[str, list[str]] = {}  # by this process
        self._finished: list[str] = []  # what was run, in the order of its ends
        self._codes = memoryview(b"")
        self._served = _modules()  # or there before it could serve
        self.held = False
        try:
            self._open()
        except (OSError, EOFError, ValueError, TypeError):
            pass

    def _open(self) -> None:
        with open(self.path, "rb", buffering=0) as file:
            if file.fileno() > 2:
                content = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
            else:  # a standard descriptor is closed: the map's own would be in its place
                content = memoryview(file.readall())
        if content[: len(MAGIC_NUMBER)] == MAGIC_NUMBER:
            start = len(MAGIC_NUMBER) + 2 * _SIZE
            sizes = content[len(MAGIC_NUMBER) : start].cast("I")
            index, codes = content[start : start + sizes[0]], content[start + sizes[0] :]
            if len(codes) == sizes[1]:
                self._entries, self._orders = marshal.loads(index)
                self._codes = codes

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        return self._spec(name) if self._serves(name) else None

    def _serves(self, name: str) -> bool:
        entry = self._entries.get(name)
        return entry is not None and (self.held or _is_current(entry))

    def _spec(self, name: str) -> ModuleSpec:
        entry = self._entries[name]
        spec = ModuleSpec(name, self, origin=entry[0], is_package=entry[3])  # type: ignore[arg-type]
        spec.has_location = True
        if entry[3]:
            spec.submodule_search_locations = [os.path.dirname(entry[0])]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        self._served.add(module.__name__)
        exec(self.get_code(module.__name__), module.__dict__)
        self._finished.append(module.__name__)

    def imported(self, name: str) -> ModuleType:
        """import_module(), for a module that many others come with."""
        if name in self._orders:
            self._run(self._orders[name])
            return __import__(name, fromlist=["*"])
        before, others = len(self._finished), _modules()
        module = __import__(name, fromlist=["*"])
        came = self._finished[before:]
        if len(came) == len(_modules()) - len(others):  # none from elsewhere
            self._learned[name] = came
        return module

    def _run(self, names: list[str]) -> None:
        """Those that are not there yet, if all of them can be served."""
        names = [name for name in names if name not in sys.modules]
        parents = {name: name.rpartition(".")[0] for name in names}
        if not all(map(self._serves, names)) or not all(
            one in sys.modules or one in parents for one in parents.values()
        ):
            return
        modules = {name: self._module(name) for name in names}
        sys.modules.update(modules)
        try:
            for name, module in modules.items():
                self.exec_module(module)
                setattr(sys.modules[parents[name]], name[len(parents[name]) + 1 :], module)
        except BaseException:
            for left in names[names.index(name) :]:
                del sys.modules[left]
            raise

    def _module(self, name: str) -> ModuleType:
        """Not run yet, as importlib makes it."""
        module, spec = type(sys)(name), self._spec(name)
        module.__spec__, module.__package__ = spec, spec.parent
        module.__loader__ = self  # type: ignore[assignment]
        module.__file__ = spec.origin
        if spec.submodule_search_locations is not None:
            module.__path__ = spec.submodule_search_locations
        return module

    def get_code(self, name: str) -> CodeType:
        code: CodeType = marshal.loads(self._code(name))
        return code

    def _code(self, name: str) -> memoryview:
        place, size = self._entries[name][4:]
        return self._codes[place : place + size]

    def keep(self) -> None:
        """Adds what this process has imported in another way, if it may write."""
        if self.held:
            return
        new = self._imported()
        if not (new or self._learned) or sys.dont_write_bytecode:
            return
        old: dict[str, tuple[About, Code]] = {
            name: (entry[:4], self._code(name)) for name, entry in self._entries.items() if _is_current(entry)
        }
        # What a changed module imports is not known yet.
        known = (self._orders | self._learned).items()
        orders = {root: order for root, order in known if not new.keys() & set(order) and old.keys() >= set(order)}
        temporary = f"{self.path}.{os.getpid()}"
        try:
            with open(temporary, "xb") as file:
                file.write(_content(old | new, orders))
            os.replace(temporary, self.path)
        except OSError:
            if os.path.exists(temporary):
                os.unlink(temporary)

    def has(self, names: Sequence[str]) -> bool:
        return all(name in self._entries and _is_current(self._entries[name]) for name in names)

    def _imported(self) -> dict[str, tuple[About, Code]]:
        imported: dict[str, tuple[About, Code]] = {}
        for name, module in list(sys.modules.items()):
            # By name first: what others put there need not be a module, as `typing.io` is none.
            if not name.startswith("corral.") or name in self._served:
                continue
            spec = module.__spec__
            if spec is None or spec.origin is None:
                continue
            code = spec.loader.get_code(name)  # type: ignore[union-attr]
            status = os.stat(spec.origin)
            package = spec.submodule_search_locations is not None
            about = spec.origin, status.st_size, status.st_mtime_ns, package
            imported[name] = about, marshal.dumps(code)
        return imported


def _modules() -> set[str]:
    return {name for name in sys.modules if name.startswith("corral.")}


def _content(modules: dict[str, tuple[About, Code]], orders: dict[str, list[str]]) -> bytes:
    index: dict[str, Entry] = {}
    codes = bytearray()
    for name, (about, code) in modules.items():
        index[name] = (*about, len(codes), len(code))
        codes += code
    packed = marshal.dumps((index, orders))
    return MAGIC_NUMBER + len(packed).to_bytes(_SIZE, "little") + len(codes).to_bytes(_SIZE, "little") + packed + codes


_used: Bundle | None = None


def use() -> None:
    """From here on Corral's modules come from the bundle, where bytecode is kept."""
    global _used
    if sys.dont_write_bytecode:
        return
    folder = os.path.dirname(cache_from_source(os.path.join(_PACKAGE, "bundle.py")))
    _used = Bundle(os.path.join(folder, f"bundle.{sys.implementation.cache_tag}"))
    sys.meta_path.insert(0, _used)


def keep() -> None:
    if _used:
        _used.keep()


def imported(name: str) -> ModuleType:
    """The module, and what it imports: of a command, or of a part of one that many modules come with."""
    return _used.imported(name) if _used else __import__(name, fromlist=["*"])


def has(names: Sequence[str]) -> bool:
    """Whether all of these would come from the bundle."""
    return _used is not None and _used.has(names)


def hold() -> None:
    """Keeps what is new. From now on modules come from the bundle as they are in it, and it stays as it is: nothing can
    be opened any more."""
    if _used:
        _used.keep()
        _used.held = True


def run_command(command: str) -> NoReturn:
    """Calls main() of the module `command`, from its first import to the end of the process."""
    # What is imported stays: searching it for garbage takes a millisecond and finds none. The default threshold is 700.
    gc.set_threshold(20_000)
    use()
    status = __import__(command, fromlist=["main"]).main(own_process=True)
    sys.stdout.flush()
    sys.stderr.flush()
    keep()
    # Everything is closed by now; taking the interpreter apart would only take time.
    os._exit(status)


def _is_current(entry: Entry) -> bool:
    try:
        status = os.stat(entry[0])
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (entry[1], entry[2])
