"""The bytecode of Corral's modules in one file, for the `corral` command.

A start imports fifty small modules. To find and open a file for each takes longer than to run them where files are
slow: a network's, a container's layers, a cold cache. The bundle lies beside Python's own bytecode files and follows
their rules: made by the first run that may write there, and a module whose source has changed since is not taken from
it. Nothing needs it: what cannot be read is passed over.

It has all modules of all commands that ever ran, more than a start needs, so it is mapped and not read: Python's
magic number, the sizes of two parts, an index, and the bytecode that this has the places of.
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
        self._codes = memoryview(b"")
        self._served = {name for name in sys.modules if name.startswith("corral.")}  # or there before it could serve
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
                self._entries, self._codes = marshal.loads(index), codes

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        entry = self._entries.get(name)
        if entry is None or not (self.held or _is_current(entry)):
            return None
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
        if not new or sys.dont_write_bytecode:
            return
        old: dict[str, tuple[About, Code]] = {
            name: (entry[:4], self._code(name)) for name, entry in self._entries.items() if _is_current(entry)
        }
        temporary = f"{self.path}.{os.getpid()}"
        try:
            with open(temporary, "xb") as file:
                file.write(_content(old | new))
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


def _content(modules: dict[str, tuple[About, Code]]) -> bytes:
    index: dict[str, Entry] = {}
    codes = bytearray()
    for name, (about, code) in modules.items():
        index[name] = (*about, len(codes), len(code))
        codes += code
    packed = marshal.dumps(index)
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
