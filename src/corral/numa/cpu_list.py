"""Lists of CPUs and nodes as the kernel writes them: "0-3,8" (Documentation/admin-guide/cputopology.rst)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

HIGHEST = 65535  # more than Linux has


def parse(text: str) -> tuple[int, ...]:
    """In order, each number once. Raises ValueError for what is no such list; an empty text is an empty list."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, dash, last = part.partition("-")
        if not part and not text.strip():
            break
        if not _is_number(first) or (dash and not _is_number(last)):
            raise ValueError(f"{part!r} is no number or range")
        start, end = int(first), int(last or first)
        if end < start or end > HIGHEST:
            raise ValueError(f"{part!r} is no range of numbers up to {HIGHEST}")
        numbers.update(range(start, end + 1))
    return tuple(sorted(numbers))


def text(numbers: Iterable[int]) -> str:
    """The shortest list; "" for none."""
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= 5
