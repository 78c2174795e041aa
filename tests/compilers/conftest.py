"""The compilers are installed before the tests are counted: there are some for each compiler."""

from __future__ import annotations

from pathlib import Path

from tests.support import programs

programs.require([Path(__file__)])
