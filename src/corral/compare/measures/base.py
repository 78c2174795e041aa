"""What a measure is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from corral.compare.contenders.base import Contender

Metrics = dict[str, tuple[float, str]]
"""Value and unit by metric."""


@dataclass(frozen=True)
class Cpus:
    """Where contenders run: `pinned` when one is measured alone, `all` when many are at once. Numbers of CPUs."""

    pinned: tuple[int, ...]
    all: tuple[int, ...]
    folder: Path


class Measure(ABC):
    """`name` is what --only takes, `title` a line for people."""

    name: str
    title: str

    @abstractmethod
    def take(self, contender: Contender, place: Cpus) -> Metrics:
        """One sample. Raises Failed when it could not be taken, Unsuitable when it never can."""
