"""What measures and metrics are called where people read: their names on the command line and in files are short."""

from __future__ import annotations

WORKLOADS = {
    "disk": "a disk: reads and writes past the page cache",
    "forkexec": "processes: fork and exec",
    "integer": "whole numbers: hashing and sorting",
    "latency": "memory: how long a load takes",
    "linpack": "floating point: Linpack",
    "pagefault": "page faults",
    "pipe": "a pipe between two processes",
    "stream": "memory: how much goes through (STREAM)",
    "switch": "switches between processes and between threads",
    "syscall": "system calls",
    "timer": "timers and clocks",
}
METRICS = {
    "first-line": "to the first line",
    "whole-life": "from start to end",
    "rate": "instances a second",
    "life-p50": "life of an instance, median",
    "life-p99": "life of an instance, 99 in 100",
    "each": "each instance",
    "all": "all of them together",
    "getppid": "getppid, which does next to nothing",
    "write-null": "a write to /dev/null",
    "read-zero": "a read from /dev/zero",
    "first-touch": "the first touch of a page",
    "copy-on-write": "a write after a fork",
    "clock": "asking for the time",
    "late-p50": "how late a sleep ends, median",
    "late-p99": "how late a sleep ends, 99 in 100",
    "late-most": "how late a sleep ends, at most",
    "write-and-flush": "a write and a flush",
    "requests": "requests a second",
    "latency-p99": "latency, 99 in 100",
    "residual": "how exact the solution is",
}
_SHARES = {"p50": "median", "p99": "99 in 100"}


def of_measure(name: str, titles: dict[str, str]) -> str:
    """A heading; `titles` are those of the measures that this Corral has."""
    return _capitalized(titles.get(name, name.replace("-", " ")))


def of_metric(name: str) -> str:
    if name in METRICS:
        return _capitalized(METRICS[name])
    *words, last = name.split("-")
    share = _SHARES.get(last)
    return _capitalized(f"{' '.join(words)}, {share}" if share and words else name.replace("-", " "))


def _capitalized(text: str) -> str:
    """As a sentence begins; a name like fio stays as it is."""
    return text if text.startswith(("fio", "sysbench", "stress-ng", "getppid")) else text[:1].upper() + text[1:]
