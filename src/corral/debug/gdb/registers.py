"""A vCPU's registers as gdb knows them: the description of a target, and values by number."""

from __future__ import annotations

from corral.debug.guest_registers import get_regs, get_sregs, set_regs, set_sregs
from corral.errors import KvmError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.kvm.vcpu import Vcpu
    from corral.memory import GuestMemory
    from corral.native import CData

_GENERAL = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)), "rip")
_SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")
# Name, offset in XSAVE's standard form and size (SDM 1, 10.5.1 and 13.4).
_X87 = (("fctrl", 0, 2), ("fstat", 2, 2), ("ftag", 4, 1), ("fiseg", 12, 2), ("fioff", 8, 4), ("foseg", 20, 2))
_X87_POINTERS = (("fooff", 16, 4), ("fop", 6, 2))
_SYSTEM = ("cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apic_base")
_BASES = ("gdt_base", "idt_base", "tr_base", "ldt_base")
_XMM, _MXCSR, _YMM_HIGH, _XSTATE_BV = 160, 24, 576, 512
_MSR_KERNEL_GS_BASE = 0xC0000102
_SSE, _AVX = 1 << 1, 1 << 2
_GENERAL_TYPES = {"rbp": "data_ptr", "rsp": "data_ptr", "rip": "code_ptr"}


class GdbState:
    """All of a vCPU that registers are taken from; save() gives changes back. The vCPU is stopped."""

    def __init__(self, vcpu: Vcpu, memory: GuestMemory) -> None:
        self.vcpu, self._memory = vcpu, memory
        self.regs, self.sregs = get_regs(vcpu, memory), get_sregs(vcpu)
        self.xsave = vcpu.get_xsave()

    def save(self, part: str) -> None:
        if part == "regs":
            set_regs(self.vcpu, self._memory, self.regs)
        elif part == "sregs":
            set_sregs(self.vcpu, self.sregs)
        else:
            self.vcpu.set_xsave(self.xsave)

    def use(self, component: int) -> None:
        """What is in this XSAVE component counts now; it does not while its bit says initial."""
        self.xsave[_XSTATE_BV] |= component


@record(frozen=True)
class Register:
    """`size` in bytes; `put` is None where gdb must not write. `part` is what save() is to give back."""

    name: str
    size: int
    feature: str
    type: str
    get: Callable[[GdbState], int]
    put: Callable[[GdbState, int], None] | None = None
    part: str = ""


def _field(
    name: str, size: int, feature: str, type: str, part: str, of: Callable[[GdbState], CData], field: str
) -> Register:
    return Register(
        name, size, feature, type, lambda s: int(getattr(of(s), field)), lambda s, v: setattr(of(s), field, v), part
    )


def _bytes(name: str, feature: str, type: str, at: int, size: int, component: int, width: int = 0) -> Register:
    def get(state: GdbState) -> int:
        return int.from_bytes(state.xsave[at : at + size], "little")

    def put(state: GdbState, value: int) -> None:
        state.xsave[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        state.use(component)

    return Register(name, width or size, feature, type, get, put, "xsave")


def _segment(name: str) -> Register:
    return Register(name, 4, "core", "int32", lambda s: int(getattr(s.sregs, name).selector))


def _table_base(name: str) -> Register:
    part = name.removesuffix("_base")
    return Register(name, 8, "system", "int64", lambda s: int(getattr(s.sregs, part).base))


def _all_registers() -> tuple[Register, ...]:
    general = [
        _field(name, 8, "core", _GENERAL_TYPES.get(name, "int64"), "regs", lambda s: s.regs, name) for name in _GENERAL
    ]
    flags = _field("eflags", 4, "core", "i386_eflags", "regs", lambda s: s.regs, "rflags")
    stack = [_bytes(f"st{n}", "core", "i387_ext", 32 + 16 * n, 10, 1) for n in range(8)]
    x87 = [_bytes(name, "core", "int", at, size, 1, 4) for name, at, size in (*_X87, *_X87_POINTERS)]
    xmm = [_bytes(f"xmm{n}", "sse", "vec128", _XMM + 16 * n, 16, _SSE) for n in range(16)]
    mxcsr = _bytes("mxcsr", "sse", "i386_mxcsr", _MXCSR, 4, _SSE)
    ymm = [_bytes(f"ymm{n}h", "avx", "uint128", _YMM_HIGH + 16 * n, 16, _AVX) for n in range(16)]
    bases = [
        _field("fs_base", 8, "segments", "int64", "sregs", lambda s: s.sregs.fs, "base"),
        _field("gs_base", 8, "segments", "int64", "sregs", lambda s: s.sregs.gs, "base"),
    ]
    kernel_gs = Register("k_gs_base", 8, "system", "int64", lambda s: s.vcpu.get_msr(_MSR_KERNEL_GS_BASE))
    system = [_field(name, 8, "system", "int64", "sregs", lambda s: s.sregs, name) for name in _SYSTEM]
    segments = [_segment(name) for name in _SEGMENTS]
    tables = [_table_base(name) for name in _BASES]
    return (*general, flags, *segments, *stack, *x87, *xmm, mxcsr, *ymm, *bases, kernel_gs, *system, *tables)


REGISTERS = _all_registers()


def read(state: GdbState, number: int) -> str:
    """A register's value as gdb has it, little-endian hexadecimal; x's when this KVM does not have it."""
    register = REGISTERS[number]
    try:
        value = register.get(state)
    except KvmError:
        return "xx" * register.size
    return (value & (1 << 8 * register.size) - 1).to_bytes(register.size, "little").hex()


def target_xml() -> str:
    """The target description (gdb manual, annex G)."""
    lines = ['<?xml version="1.0"?>', '<!DOCTYPE target SYSTEM "gdb-target.dtd">', "<target>"]
    lines.append("<architecture>i386:x86-64</architecture>")
    for feature, (full_name, types) in _FEATURES.items():
        lines += [f'<feature name="{full_name}">', *types]
        lines += [
            f'<reg name="{r.name}" bitsize="{8 * r.size}" type="{r.type}" regnum="{number}"/>'
            for number, r in enumerate(REGISTERS)
            if r.feature == feature
        ]
        lines.append("</feature>")
    return "\n".join([*lines, "</target>"])


def _flags(name: str, bits: str) -> str:
    fields = "".join(f'<field name="{word}" start="{bit}" end="{bit}"/>' for bit, word in enumerate(bits.split()))
    return f'<flags id="{name}" size="4">{fields}</flags>'


_EFLAGS = _flags("i386_eflags", "CF R1 PF R3 AF R5 ZF SF TF IF DF OF P0 P1 NT R15 RF VM AC VIF VIP ID")
_VECTORS = [
    *('<vector id="v4f" type="ieee_single" count="4"/>', '<vector id="v2d" type="ieee_double" count="2"/>'),
    *('<vector id="v16i8" type="int8" count="16"/>', '<vector id="v8i16" type="int16" count="8"/>'),
    *('<vector id="v4i32" type="int32" count="4"/>', '<vector id="v2i64" type="int64" count="2"/>'),
    '<union id="vec128"><field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/>'
    '<field name="v16_int8" type="v16i8"/><field name="v8_int16" type="v8i16"/><field name="v4_int32" type="v4i32"/>'
    '<field name="v2_int64" type="v2i64"/><field name="uint128" type="uint128"/></union>',
    _flags("i386_mxcsr", "IE DE ZE OE UE PE DAZ IM DM ZM OM UM PM"),
]
_FEATURES: dict[str, tuple[str, list[str]]] = {
    "core": ("org.gnu.gdb.i386.core", [_EFLAGS]),
    "sse": ("org.gnu.gdb.i386.sse", _VECTORS),
    "avx": ("org.gnu.gdb.i386.avx", []),
    "segments": ("org.gnu.gdb.i386.segments", []),
    "system": ("corral.x86.system", []),
}
