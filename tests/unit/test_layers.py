"""Imports point one way: from a folder to those below it, and from no module back to itself.

Every import counts, those within functions and those for type checkers too.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import corral
from csrc import declarations

SOURCE = Path(corral.__file__).parent

# From the bottom up: each imports from those before it, never from one behind. docs/design.md has what they are.
LAYERS = [
    "errors",
    "printable",
    "notebook",
    "spelling",
    "os_errors",
    "host_files",
    "user_cache",
    "user_runtime",
    "voice",
    "startup",
    "native",
    "jail",
    "memory",
    "kvm",
    "arch",
    "numa",
    "config",
    "network",
    "core",
    "files",
    "backends",
    "devices",
    "boot",
    "images",
    "symbols",
    "guests",
    "oci",
    "injection",
    "snapshot",
    "store",
    "machine",
    "doctor",
    "launch",
    "agent",
    "introspect",
    "running",
    "pool",
    "api",
    "observe",
    "debug",
    "script",
    "aio",
    "fuzz",
    "compare",
    "fleet",
    "ray",
    "cli",
]


def _modules() -> dict[str, Path]:
    found = {}
    for path in SOURCE.rglob("*.py"):
        parts = ["corral", *path.relative_to(SOURCE).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _imports(module: str) -> set[str]:
    """The modules of Corral that one imports anywhere in it, also by `from` its package."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else str(node.module))
    return {name for name in found if name in MODULES and name != module}


IMPORTS = {module: _imports(module) for module in MODULES}


def _layer(module: str) -> int:
    """The package itself, which has only a version and names for what is elsewhere, is below all."""
    parts = module.split(".")
    return LAYERS.index(parts[1]) if parts[1:] and parts[1] != "__main__" else (len(LAYERS) if parts[1:] else -1)


def _circles() -> set[frozenset[str]]:
    """Modules that come back to themselves (Tarjan's strongly connected components of more than one)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found = set()

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        path.append(module)
        for other in IMPORTS[module]:
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in path:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            at = path.index(module)
            circle = frozenset(path[at:])
            del path[at:]
            if len(circle) > 1:
                found.add(circle)

    for module in MODULES:
        if module not in number:
            visit(module)
    return found


def test_every_folder_has_its_layer() -> None:
    folders = {module.split(".")[1] for module in MODULES if module != "corral"} - {"__main__"}
    assert folders == set(LAYERS)


def test_imports_point_down() -> None:
    upward = {
        (module, other) for module, imported in IMPORTS.items() for other in imported if _layer(module) < _layer(other)
    }
    assert upward == set()


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert _circles() == set()


def test_a_public_class_has_its_name_alone() -> None:
    found: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(module)
    twice = {name: modules for name, modules in found.items() if len(modules) > 1}
    assert twice == {"Sandbox": ["corral.aio", "corral.script.sandbox"]}  # the same, for asyncio


def test_folders_of_c_include_from_those_below_them() -> None:
    folders = {header.name: name for name in declarations.FOLDERS for header in (declarations.CSRC / name).glob("*.h")}
    order = declarations.FOLDERS
    upward = [
        f"{name}/{path.name} includes {included}"
        for name in order
        for path in (declarations.CSRC / name).iterdir()
        for included in re.findall(r'^#include "(\w+\.h)"', path.read_text(), re.MULTILINE)
        if order.index(folders[included]) > order.index(name)
    ]
    assert upward == []
