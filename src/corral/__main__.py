from __future__ import annotations

from corral.startup.bundle import run_command

run_command("corral.cli")
