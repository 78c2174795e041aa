"""The raw results as JSON and as CSV, written and read again."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, Any

from corral.compare.samples import Absence, Results, Sample
from corral.errors import BootError, ConfigError

FORMAT = "corral-compare-1"


def write_json(results: Results, path: Path) -> None:
    def write(file: IO[str]) -> None:
        json.dump({"format": FORMAT, **asdict(results)}, file, indent=1)

    _write(path, write)


def write_csv(results: Results, path: Path) -> None:
    def write(file: IO[str]) -> None:
        writer = csv.writer(file)
        names = [field.name for field in fields(Sample)]
        writer.writerow(names)
        writer.writerows([getattr(sample, name) for name in names] for sample in results.samples)

    _write(path, write)


def write_text(text: str, path: Path) -> None:
    _write(path, lambda file: file.write(text))


def read_json(path: Path) -> Results:
    """Raises BootError for a file that is none of write_json()'s."""
    try:
        content: Any = json.loads(path.read_text())
    except OSError as error:
        raise BootError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BootError(f"{str(path)!r} is no JSON: {error}") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise BootError(f"{str(path)!r} has no results of corral compare; make some: corral compare --out DIR")
    try:
        content["samples"] = [_sample(one) for one in content["samples"]]
        content["absences"] = [Absence(**one) for one in content["absences"]]
        return Results(**content)
    except (KeyError, TypeError, ValueError) as error:
        raise BootError(f"{str(path)!r} is not whole: {error}") from error


def _sample(one: dict[str, Any]) -> Sample:
    one = {**one, "value": float(one["value"]), "round": int(one["round"]), "at": float(one["at"])}
    for name in ("contender", "measure", "metric", "unit"):
        one[name] = str(one[name])
    return Sample(**one)


def _write(path: Path, fill: Callable[[IO[str]], object]) -> None:
    """Whole or not at all. Raises ConfigError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with open(descriptor, "w", newline="") as file:
                fill(file)
            os.chmod(unfinished, 0o644)
            os.replace(unfinished, path)
        except BaseException:
            os.unlink(unfinished)
            raise
    except OSError as error:
        raise ConfigError(f"--out: cannot write {str(path)!r}: {error.strerror}; name another folder") from error
