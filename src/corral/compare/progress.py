"""A bar on standard error that is written over; elsewhere than on a terminal a line now and then."""

from __future__ import annotations

import os
import shutil
import sys
import time

from corral import voice

EVERY = 30.0  # seconds between two lines where there is no terminal
BAR = 24


class ProgressBar:
    """Call it with a share from 0 to 1 and what is going on."""

    def __init__(self) -> None:
        self._terminal = os.isatty(2)
        self._begun = time.monotonic()
        self._last = 0.0

    def __call__(self, share: float, text: str) -> None:
        passed = time.monotonic() - self._begun
        if self._terminal:
            full = round(share * BAR)
            width = shutil.get_terminal_size().columns
            line = f"{'#' * full}{'.' * (BAR - full)} {share:4.0%} {passed:5.0f} s  {text}"
            voice.control("\r\x1b[K")
            sys.stderr.write(line[: width - 1])
            sys.stderr.flush()
        elif passed - self._last >= EVERY:
            self._last = passed
            print(f"corral: {share:.0%}, {text}", file=sys.stderr, flush=True)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._terminal:
            voice.control("\r\x1b[K")
            sys.stderr.flush()
