"""Every table through the distribution's iasl: it has nothing to say, and compiles what it reads to the same bytes."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.arch.x86_64 import acpi
from corral.arch.x86_64.acpi.topology import Topology
from corral.config import MOST_CPUS, MOST_DISKS
from tests.unit.acpi.topologies import found, topologies

HEADER = 36


def iasl(*words: str) -> str:
    done = subprocess.run(["iasl", *words], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def check(tables: dict[int, bytes]) -> str:
    """Disassembles and compiles each; returns the source of all."""
    sources = []
    with tempfile.TemporaryDirectory() as folder:
        for signature, table in found(tables).items():
            path = Path(folder) / f"{signature}.dat"
            path.write_bytes(table)
            iasl("-d", str(path))
            source = path.with_suffix(".dsl")
            said = iasl("-oa", str(source))  # without optimisations
            assert "0 Errors, 0 Warnings, 0 Remarks" in said, said
            # The header's last eight bytes name the compiler, which its checksum counts.
            assert path.with_suffix(".aml").read_bytes()[HEADER:] == table[HEADER:], signature
            text = source.read_text()
            assert "Invalid" not in text
            assert "Incorrect checksum" not in text
            sources.append(text)
    return "\n".join(sources)


@pytest.mark.parametrize("cpus", [1, 2, MOST_CPUS])
@pytest.mark.parametrize("disks", [0, 1, MOST_DISKS])
def test_machines_as_they_are(cpus: int, disks: int) -> None:
    source = check(acpi.build(range(cpus), disks))
    assert source.count('"LNRO0005"') == disks
    assert source.count("Processor Enabled : 1") == cpus
    assert 'EisaId ("PNP0501")' in source


@given(topologies(), st.integers(0, MOST_DISKS))
@settings(max_examples=25, deadline=None)
def test_any_machine(guest: tuple[list[int], Topology], disks: int) -> None:
    apic_ids, topology = guest
    source = check(acpi.build(apic_ids, disks, topology))
    assert source.count("[Memory Affinity]") == len(topology.memory)
