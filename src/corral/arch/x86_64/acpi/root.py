"""Where ACPI begins: the root pointer and the list of tables (ACPI 6.4, sections 5.2.5.3 and 5.2.8)."""

from __future__ import annotations

import struct

from corral.arch.x86_64.acpi.table import OEM, table, with_checksum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_RSDP_1 = struct.Struct("<8sB6sBI")  # the part that ACPI 1.0 had, with a checksum of its own
_RSDP_2 = struct.Struct("<IQB3x")  # length, XSDT, checksum of everything
RSDP_SIZE = _RSDP_1.size + _RSDP_2.size
_CHECKSUM_1_AT, _CHECKSUM_2_AT = 8, 32
_REVISION = 2


def rsdp(xsdt_address: int) -> bytes:
    """The root system description pointer. It has no RSDT: 64-bit kernels read the XSDT."""
    first = with_checksum(_RSDP_1.pack(b"RSD PTR ", 0, OEM, _REVISION, 0), _CHECKSUM_1_AT)
    return with_checksum(first + _RSDP_2.pack(RSDP_SIZE, xsdt_address, 0), _CHECKSUM_2_AT)


def xsdt(tables: Sequence[int]) -> bytes:
    """The extended system description table: guest physical addresses, the FADT's first."""
    return table(b"XSDT", 1, struct.pack(f"<{len(tables)}Q", *tables))
