"""What Python sees of the shim is declared once, in its headers: cffi's declarations and the types come from there."""

from __future__ import annotations

import ast
import shutil
import sys
from pathlib import Path

import pytest

from corral.native import ffi, lib
from csrc import declarations


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the headers."""
    shutil.copytree(declarations.CSRC / "decl", tmp_path / "decl")
    for name in declarations.FOLDERS:
        shutil.copytree(declarations.CSRC / name, tmp_path / name)
    return tmp_path


def typed_names() -> set[str]:
    (shim,) = (node for node in ast.parse(declarations.STUB.read_text()).body if isinstance(node, ast.ClassDef))
    return {
        node.name if isinstance(node, ast.FunctionDef) else node.target.id  # type: ignore[attr-defined]
        for node in shim.body
    }


def test_the_types_are_those_of_the_headers() -> None:
    assert declarations.STUB.read_text() == declarations.stub(), "run: make declarations"


def test_the_shim_offers_what_the_types_say_and_nothing_else() -> None:
    assert typed_names() == set(dir(lib))


def test_functions_take_as_many_arguments_as_the_types_say() -> None:
    (shim,) = (node for node in ast.parse(declarations.STUB.read_text()).body if isinstance(node, ast.ClassDef))
    functions = [node for node in shim.body if isinstance(node, ast.FunctionDef)]
    assert len(functions) > 70
    for function in functions:
        real = ffi.typeof(getattr(lib, function.name))
        assert len(function.args.posonlyargs or function.args.args) - 1 == len(real.args), function.name
        result = ast.unparse(function.returns) if function.returns else ""
        kinds = {"void": "None", "_Bool": "bool"}
        assert result == kinds.get(real.result.cname, "CData" if real.result.kind == "pointer" else "int")


@pytest.mark.parametrize(
    ("header", "old", "new"),
    [
        ("virtq.h", "void corral_virtq_publish(", "bool corral_virtq_publish("),
        ("uart.h", "void corral_uart_hang_up(struct corral_uart *u);", ""),
        ("uart.h", "corral_uart_hang_up(struct corral_uart *u)", "corral_uart_hang_up(struct corral_uart *u, int how)"),
        ("p9.h", "#define CORRAL_P9_QUEUE_SIZE 128", "#define CORRAL_P9_SIZE 128"),
        ("forms.h", "CORRAL_MMX", "CORRAL_MMX_TOO"),
    ],
)
def test_a_header_that_changes_is_noticed(
    folder: Path, header: str, old: str, new: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["declarations.py", "--check"])
    assert declarations.main() == 0
    (path,) = folder.glob(f"*/{header}")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    changed = declarations.stub(folder)
    monkeypatch.setattr(declarations, "stub", lambda: changed)
    assert declarations.main() == 1
    assert capsys.readouterr().err == "csrc: shim.pyi is not what the headers declare; run: make declarations\n"


def test_a_header_is_cs_alone_but_for_what_is_marked() -> None:
    text = """
#ifndef GUARD
#include <stdint.h>
int hidden(void);
/* --- for Python --- */
#define NUMBER 0x10 /* with a comment */
#define SHIFTED (1u << 3)
struct pair {
    int shown; /* of
                * several lines */
    /* --- for C alone --- */
    struct iovec *hidden;
};
int seen(struct pair *p);
/* --- for C alone --- */
static inline int also_hidden(void)
{
    return 1;
}
#endif
"""
    expected = """\
#define NUMBER 0x10
#define SHIFTED ...
struct pair {
    int shown;
    ...;
};
int seen(struct pair *p);
"""
    assert declarations.for_python("x.h", text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("/* --- for python --- */\n", "x.h: 'for python' is no mark"),
        ("/* --- for Python --- */\n#if X\n", "x.h: '#if X' cannot be for Python"),
        ("/* --- for Python --- */\n#define F(x) x\n", "x.h: '#define F.x. x' cannot be for Python"),
        ("/* --- for Python --- */\nint f(void)\n{\n/* --- for C alone --- */\n", "within braces"),
    ],
)
def test_what_python_cannot_have_is_refused(text: str, why: str) -> None:
    with pytest.raises(declarations.BadHeader, match=why):
        declarations.for_python("x.h", text)
