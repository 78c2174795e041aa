from __future__ import annotations

from corral.bundle import run_command

run_command()
