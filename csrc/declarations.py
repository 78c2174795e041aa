"""What Python sees of the shim, taken from its headers: declarations for cffi, and types for those who check them.

A header is C's alone but for what is between these two:

    /* --- for Python --- */
    /* --- for C alone --- */

The latter may be within a struct, and holds to its end then: Python does not know these fields. decl/ has what Linux's
own headers declare; the compiler checks that.

    python csrc/declarations.py --check    whether the types are those of the headers
    python csrc/declarations.py --write    makes them so
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from pycparser import c_ast, c_parser

CSRC = Path(__file__).resolve().parent
# Of the shim, from the bottom up: each includes from those before it (tests/unit/test_layers.py).
FOLDERS = ("host", "vcpu", "uart", "assist", "virtio", "blk", "net", "vsock")
STUB = CSRC.parent / "src" / "corral" / "native" / "shim.pyi"

_MARK = re.compile(r"/\* --- (.*(?:python|alone).*) --- \*/", re.IGNORECASE)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)
_DEFINE = re.compile(r"#define (\w+) (.+)")
_CONSTANT = re.compile(r"^#define (\w+)", re.MULTILINE)
_NO_C = re.compile(r"^#define .*$|^    \.\.\.;$", re.MULTILINE)
_NUMBER = re.compile(r"\d+|0x[\da-f]+")
_INTEGERS = {"char", "short", "int", "long", "unsigned", "signed", "size_t"}
_INTEGERS |= {f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_TYPEDEFS = (
    "".join(f"typedef int {name};\n" for name in sorted(_INTEGERS) if name.endswith("_t")) + "typedef int bool;\n"
)

_WIDTH = 120  # of a line

_HEAD = '''\
"""What the shim offers, with types. Made from csrc/*/*.h by csrc/declarations.py: do not change it by hand, but run
`make declarations`. Pointers and structures are cffi cdata."""

from typing import Any

CData = Any  # cffi gives no static types for C structures

class Lib:
'''


class BadHeader(Exception):
    """A header whose part for Python cannot be taken out of it; the text says where and why."""


def for_python(name: str, text: str) -> str:
    """The part of a header for Python, without comments. Raises BadHeader."""
    kept: list[str] = []
    shown = within = False  # `within` a struct some of whose fields are C's alone
    depth = 0
    marked = _MARK.sub(lambda mark: f"@{mark[1]}", text.rstrip().removesuffix("#endif"))
    for line in _COMMENT.sub("", marked).splitlines():
        if line.lstrip().startswith("@"):
            mark = line.strip()
            if mark not in ("@for Python", "@for C alone"):
                raise BadHeader(f"{name}: {mark[1:]!r} is no mark; write 'for Python' or 'for C alone'")
            shown = mark == "@for Python"
            within = not shown and depth > 0
            if within:
                kept.append("    ...;")
            continue
        if within and line.startswith("}"):
            shown, within = True, False
        if not shown or not line.strip():
            continue
        if line.startswith("#"):
            define = _DEFINE.fullmatch(line.rstrip())
            if not define:
                raise BadHeader(f"{name}: {line.strip()!r} cannot be for Python; put it where C is alone")
            line = f"#define {define[1]} {define[2] if _NUMBER.fullmatch(define[2]) else '...'}"
        depth += line.count("{") - line.count("}")
        kept.append(line.rstrip())
    if depth:
        raise BadHeader(f"{name}: a mark within braces that are not a struct's")
    return "".join(f"{line}\n" for line in kept)


def headers(folder: Path = CSRC) -> dict[str, str]:
    """By name, the parts for Python of the headers that have one; each comes after those that it includes."""
    paths = (path for part in FOLDERS for path in sorted((folder / part).glob("*.h")))
    texts = {path.name: path.read_text() for path in paths}
    found: dict[str, str] = {}

    def add(name: str) -> None:
        if name in found or name not in texts:
            return
        found[name] = ""  # for headers that include each other
        for included in _INCLUDE.findall(texts[name]):
            add(included)
        del found[name]
        found[name] = for_python(name, texts[name])

    for name in texts:
        add(name)
    return {name: part for name, part in found.items() if part}


def of_linux(folder: Path = CSRC) -> dict[str, str]:
    """By name, what Linux's headers declare, as cffi takes it."""
    return {f"decl/{path.name}": path.read_text() for path in sorted((folder / "decl").glob("*.h"))}


def stub(folder: Path = CSRC) -> str:
    """The text of shim.pyi."""
    parts = of_linux(folder) | headers(folder)
    typed = _typed(headers(folder))
    lines = []
    for name, text in parts.items():
        constants = [f"    {constant}: int" for constant in _CONSTANT.findall(text)]
        if declared := [*constants, *typed.get(name, ())]:
            lines += ["", f"    # {name}", *declared]
    return _HEAD + "\n".join(lines[1:]) + "\n"


def _typed(parts: dict[str, str]) -> dict[str, list[str]]:
    """Enumerators, variables and functions, by the header that declares them."""
    source = "".join(f'#line 1 "{name}"\n{_NO_C.sub("", text)}' for name, text in parts.items())
    typed: dict[str, list[str]] = {}
    for node in c_parser.CParser().parse(_TYPEDEFS + source).ext:
        lines = typed.setdefault(node.coord.file, [])
        if isinstance(node, c_ast.Decl) and isinstance(node.type, c_ast.FuncDecl):
            lines.append(_function(node.name, node.type))
        elif isinstance(node, c_ast.Decl) and isinstance(node.type, c_ast.Enum):
            lines += [f"    {enumerator.name}: int" for enumerator in node.type.values.enumerators]
        elif isinstance(node, c_ast.Decl) and node.name:
            lines.append(f"    {node.name}: CData")
    return typed


def _function(name: str, function: c_ast.FuncDecl) -> str:
    named = [one for one in function.args.params if one.name] if function.args else []
    parameters = ["self", *(f"{one.name}: {_python(one.type)}" for one in named), *(["/"] if named else [])]
    head, together, tail = f"    def {name}(", ", ".join(parameters), f") -> {_python(function.type)}: ..."
    if len(head + together + tail) <= _WIDTH:
        return head + together + tail
    if len(together) <= _WIDTH - 8:
        return f"{head}\n        {together}\n    {tail}"
    return "\n".join([head, *(f"        {one}," for one in parameters), f"    {tail}"])


def _python(type: c_ast.Node) -> str:
    """The type of a parameter or a result."""
    if isinstance(type, c_ast.TypeDecl) and isinstance(type.type, c_ast.Enum):
        return "int"
    if isinstance(type, c_ast.TypeDecl) and isinstance(type.type, c_ast.IdentifierType):
        names = set(type.type.names)
        if names <= {"bool", "_Bool"}:
            return "bool"
        if names == {"void"}:
            return "None"
        return "int" if names <= _INTEGERS else "CData"
    if isinstance(type, c_ast.PtrDecl) and "const" in type.type.quals and _python(type.type) == "int":
        return "bytes | CData"
    return "CData"


def main() -> int:
    parser = argparse.ArgumentParser(description="Check or write the types of what the shim offers.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="fail unless they are those of the headers")
    what.add_argument("--write", action="store_true", help="make them so")
    options = parser.parse_args()
    try:
        text = stub()
    except BadHeader as error:
        print(f"csrc: {error}", file=sys.stderr)
        return 1
    if options.write:
        STUB.write_text(text)
    elif STUB.read_text() != text:
        print(f"csrc: {STUB.name} is not what the headers declare; run: make declarations", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
