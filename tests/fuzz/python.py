"""python -m tests.fuzz.python TARGET [libFuzzer's words]: fuzzes Python, one of tests/fuzz/targets, by Atheris.

Atheris is libFuzzer for Python: what it is told and what it says is what that of C is told and says. Seeds are put into
the first folder that is named. With --lines FOLDER it tells instead how many lines of what is concerned the inputs in
FOLDER reach.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any


def load(name: str) -> ModuleType:
    return importlib.import_module(f"tests.fuzz.targets.{name}")


def fuzz(name: str, words: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["corral"]):
        target = load(name)
    for folder in [word for word in words if os.path.isdir(word)][:1]:
        for seed in target.SEEDS:
            Path(folder, hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    length = max(target.LONGEST, *map(len, target.SEEDS))
    atheris.Setup([name, f"-max_len={length}", *words], target.one)
    atheris.Fuzz()


def lines(name: str, folder: str) -> None:
    """Prints a row for each module: its name, its lines that were reached, and all."""
    target = load(name)
    modules = {importlib.import_module(module).__file__: module for module in target.CONCERNED}
    reached: dict[str, set[int]] = {str(file): set() for file in modules}

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        found = reached.get(frame.f_code.co_filename)
        if found is None:
            return None
        found.add(frame.f_lineno)
        return trace

    inputs = [path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.is_file()]
    sys.settrace(trace)
    for data in inputs:
        target.one(data)
    sys.settrace(None)
    for file, module in modules.items():
        within = in_functions(compile(Path(str(file)).read_text(), str(file), "exec"))
        print(module, len(within & reached[str(file)]), len(within))


def in_functions(code: CodeType) -> set[int]:
    """The lines of a module's functions: those of the module itself run when it is imported."""
    found = set()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_flags & 2:  # CO_NEWLOCALS: a function, and not a class
                found |= {line for *_, line in constant.co_lines() if line} - {constant.co_firstlineno}
            found |= in_functions(constant)
    return found


if __name__ == "__main__":
    if sys.argv[2:3] == ["--lines"]:
        lines(sys.argv[1], sys.argv[3])
    else:
        fuzz(sys.argv[1], sys.argv[2:])
