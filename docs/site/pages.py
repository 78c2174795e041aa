"""The pages of the site that are made: the home page from README.md, the commands from their tables, the Python API
from its docstrings, notebooks with what they show. mkdocs calls the functions (mkdocs.org, "hooks"); mkdocs.yml has the
rest."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import corral
from corral import store
from corral.cli import COMMANDS, help, image

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


sys.path.insert(0, str(Path(__file__).parent))
import notebooks  # noqa: E402  (beside this file, which is in no package)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path in notebooks.every():
        page = notebooks.markdown(json.loads(path.read_text()))
        files.append(File.generated(config, str(path.relative_to(DOCS).with_suffix(".md")), content=page))
    for path, text in (
        ("index.md", (ROOT / "README.md").read_text()),
        ("reference/commands.md", commands()),
        ("reference/python.md", python()),
    ):
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links from the checkout's root to docs/ lead there; those to files that the site has not become text."""
    return LINK.sub(lambda match: _link(match[1], match[2], page), markdown)


def _link(text: str, target: str, page: Page) -> str:
    if "://" in target or target.startswith("#"):
        return f"[{text}]({target})"
    if page.file.src_uri == "index.md" and target.startswith("docs/"):
        return f"[{text}]({target.removeprefix('docs/')})"
    path = (DOCS / page.file.src_uri).parent.joinpath(target.partition("#")[0]).resolve()
    is_page = path.is_relative_to(DOCS) or not path.exists()  # one that is not there is told of
    return f"[{text}]({target})" if is_page and page.file.src_uri != "index.md" else text


def commands() -> str:
    """What `corral help COMMAND` tells, of all."""
    parts = ["# Commands\n"]
    for name, about in COMMANDS.items():
        tables = [help.of_command(name), *(image.ACTIONS.values() if name == "image" else ())]
        texts = "\n\n\n".join(table.help(everything=True) for table in tables)
        parts.append(f"## corral {name}\n\n{about[0].upper()}{about[1:]}.\n\n```text\n{texts}\n```\n")
    return "\n".join(parts)


def python() -> str:
    """The names of the package, and of corral.store."""
    entries = [
        f"::: corral.{corral._AT[name]}.{corral._CALLED.get(name, name)}\n    options: {{heading: corral.{name}}}"
        for name in corral.__all__
    ]
    entries += [
        f"::: {getattr(store, name).__module__}.{name}\n    options: {{heading: corral.store.{name}}}"
        for name in store.__all__
    ]
    return "\n\n".join(["# Python", *entries])
