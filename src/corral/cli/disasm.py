"""corral disasm: the code of a kernel file, or of a guest that runs."""

from __future__ import annotations

from corral.cli.boot import machine_config
from corral.cli.options import Arguments, Command, Option, boot_words, parse, seconds
from corral.cli.terminal import Progress, leave_on_signals
from corral.config import parse_number
from corral.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.symbols.table import Symbols

COMMAND = Command(
    name="disasm",
    summary="""\
  corral disasm KERNEL PLACE            code in a kernel's file: a vmlinux, a bzImage, a PVH kernel
  corral disasm PLACE -- boot ARGS...   code in the memory of a guest that comes to that place

KERNEL is a file, or a name that `corral kernel list` tells. PLACE is a symbol, symbol+0x10, or an address; a range is
PLACE..PLACE. Without a range: the function from there to its end. Symbols come from the System.map beside the kernel,
from its symbol table, or from the ones that Linux has in itself for its oopses.""",
    operands=("KERNEL", "PLACE"),
    rest="boot ARGUMENTS...",
    options=(
        Option("count", "N", "so many instructions", short="n"),
        Option("att", "", "the AT&T syntax"),
        Option("bytes", "", "the code itself too"),
        Option("symbols", "FILE", "a System.map to take symbols from"),
        Option("when", "TEXT", "of a guest: not when it comes to PLACE, but when its console says this"),
        Option("timeout", "S", "of a guest: how long that may take (default: 60 seconds)"),
    ),
    epilog="""\
examples:
  corral disasm small start_kernel                       Corral's own kernel, which it builds if need be
  corral disasm /boot/vmlinuz-6.1.0-18-amd64 schedule+0x20 -n 10 --bytes
  corral disasm clear_page_orig --when '/ #' -- boot     as it is once Linux has patched itself""",
)


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    leave_on_signals()
    operands = arguments.operands
    if len(operands) != (2 if arguments.rest is None else 1):
        raise ConfigError(
            "corral disasm wants a kernel and a place, or a place and -- boot ...; see corral disasm --help"
        )
    print(_of_file(arguments) if arguments.rest is None else _of_guest(arguments))
    return 0


def _of_file(arguments: Arguments) -> str:
    from corral.symbols.kernel_image import KernelImage
    from corral.symbols.table import of_kernel

    path = _kernel(arguments.operands[0])
    symbols = _named_symbols(arguments) or of_kernel(path)
    with KernelImage(path) as image:
        return _listing(arguments, symbols, image.read, image.bits)


def _of_guest(arguments: Arguments) -> str:
    from corral.script.machine import ScriptedMachine
    from corral.symbols.table import of_guest

    values = arguments.values
    config = machine_config(boot_words(arguments, "disasm", "PLACE"))
    if config is None:
        raise ConfigError("corral disasm boots a guest and says nothing of corral boot; see corral boot --help")
    symbols = _named_symbols(arguments) or of_guest(config.kernel)
    start, _ = _range(arguments.operands[-1], symbols)
    with ScriptedMachine(config) as vm:
        vm.run_until(values.get("when", start), seconds(values.get("timeout", "60")))
        return _listing(arguments, symbols, vm.mem.read_some, vm.regs.bits)


def _listing(arguments: Arguments, symbols: Symbols | None, read: Callable[[int, int], bytes], bits: int) -> str:
    from corral.debug.disassembly import Listing, listing

    values = arguments.values
    start, end = _range(arguments.operands[-1], symbols)
    count = parse_number(values["count"], "--count") if "count" in values else None
    return listing(Listing(read, bits, symbols, "att" in values).instructions(start, end, count), "bytes" in values)


def _range(text: str, symbols: Symbols | None) -> tuple[int, int | None]:
    def place(part: str) -> int:
        if symbols:
            return symbols.place(part)
        try:
            return int(part, 0)
        except ValueError:
            raise ConfigError(f"this kernel has no symbols: give an address, not {part!r}; or --symbols") from None

    first, dots, last = text.partition("..")
    start, end = place(first), place(last) if dots else None
    if start < 0 or (end is not None and end <= start):
        raise ConfigError(f"{text!r} is no range: its end is not behind its beginning")
    return start, end


def _named_symbols(arguments: Arguments) -> Symbols | None:
    from corral.symbols import table

    return table.read(arguments.values["symbols"]) if "symbols" in arguments.values else None


def _kernel(name: str) -> str:
    from corral.guests import kernel

    if name not in kernel.NAMES:
        return name
    with Progress() as progress:
        return kernel.get(name, progress).path
