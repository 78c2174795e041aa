"""What parts of the tests came to: read from the JUnit files that pytest leaves, and shown as a table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree

REPEATED = "repeated"  # the property of a test that was run again, with the reason


@dataclass
class Part:
    """A part that has run. What is not pytest's, as a linter, has no tests; it may say that it cannot run here, in a
    last line like "debian13: skipped: a chroot takes root"."""

    name: str
    seconds: float
    status: int
    last_line: str = ""
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # why, for each test
    repeated: list[str] = field(default_factory=list)  # which, and why

    @property
    def result(self) -> str:
        if self.status:
            return "failed"
        return "skipped" if self.why_skipped else "ok"

    @property
    def why_skipped(self) -> str:
        _, skipped, reason = self.last_line.partition(f"{self.name}: skipped: ")
        return reason if skipped else ""

    def read(self, files: Iterable[Path]) -> None:
        """Adds the tests of JUnit files. One of a run that was killed may be cut off: the part has failed by then."""
        for file in files:
            try:
                tests = ElementTree.parse(file).iter("testcase")
            except ElementTree.ParseError:
                continue
            for test in tests:
                self._add(test)

    def _add(self, test: ElementTree.Element) -> None:
        name = f"{test.get('classname')}.{test.get('name')}"
        for item in test.iter("property"):
            if item.get("name") == REPEATED:
                self.repeated.append(f"{name}: {_one_line(item.get('value'))}")
        skipped = test.find("skipped")
        if test.find("failure") is not None or test.find("error") is not None:
            self.failed.append(name)
        elif skipped is not None:
            self.skipped.append(_one_line(skipped.get("message")))
        else:
            self.passed += 1


def table(parts: list[Part], seconds: float) -> str:
    """A line for each part; then what was skipped, repeated and failed; at last all of it, as pytest says it."""
    width = max(len(part.name) for part in parts)
    lines = [f"{'part':{width}}    time  result   passed  failed  skipped  repeated"]
    for part in parts:
        counts = (part.passed, len(part.failed), len(part.skipped), len(part.repeated))
        numbers = "{:8}{:8}{:9}{:10}".format(*counts) if any(counts) else ""
        lines.append(f"{part.name:{width}}{_time(part.seconds):>8}  {part.result:7}{numbers}".rstrip())
    reasons = {part.name: Counter(part.skipped) for part in parts}
    for part in parts:
        if part.result == "skipped":
            reasons[part.name][part.why_skipped] += 1
    lines += _section("skipped", [f"{name}: {n} x {why}" for name, all_ in reasons.items() for why, n in all_.items()])
    lines += _section("repeated", [f"{part.name}: {test}" for part in parts for test in part.repeated])
    lines += _section("failed", [f"{part.name}: {test}" for part in parts for test in part.failed])
    lines += _section("failed, and not by a test", [f"{part.name}: {part.last_line}" for part in _broken(parts)])
    return "\n".join([*lines, "", _summary(parts, seconds)])


def _broken(parts: list[Part]) -> list[Part]:
    return [part for part in parts if part.result == "failed" and not part.failed]


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", f"{title}:", *(f"  {line}" for line in lines)] if lines else []


def _summary(parts: list[Part], seconds: float) -> str:
    counts = {
        "failed": sum(len(part.failed) for part in parts),
        "passed": sum(part.passed for part in parts),
        "skipped": sum(len(part.skipped) for part in parts),
        "errors": len(_broken(parts)),
    }
    if counts["errors"] == 1:
        counts["error"] = counts.pop("errors")
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "no tests ran"
    return f" {told} in {seconds:.2f}s ({timedelta(seconds=int(seconds))}) ".center(80, "=")


def _time(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _one_line(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").strip()[:200]
