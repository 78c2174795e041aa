"""corral fuzz: changed inputs for a target in a guest, from a checkpoint on."""

from __future__ import annotations

import os

from corral.cli import terminal
from corral.cli.fuzz_request import FuzzRequest
from corral.cli.options import Command, Option, parse, seconds
from corral.config import parse_number, parse_size
from corral.errors import ConfigError
from corral.guests import sources
from corral.jail import confine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.cli.options import Arguments

ENGINES = ("corral", "afl")
SERVED = "__AFL_SHM_ID"  # in the environment: afl-fuzz has started this process

COMMAND = Command(
    name="fuzz",
    summary="""\
Boots TARGET to where it waits for input, and gives it one input after the other from there: changed ones of a corpus,
and those that go new ways are kept. TARGET is a program for Linux that is linked statically, and runs in Corral's small
Linux, or a kernel. It asks for input as corral_fuzz.h says.""",
    operands=("TARGET",),
    options=(
        Option("corpus", "DIR", "inputs to begin with, and where new ones are kept (default: corpus)"),
        Option("crashes", "DIR", "where findings go: an input each, and its report beside it (default: crashes)"),
        Option("time", "S", "end after S seconds (default: never)"),
        Option("executions", "N", "end after N inputs, of each job"),
        Option("timeout-ms", "MS", "how long an input may take before that is a finding (default: 500)"),
        Option("fresh", "N", "go back to the checkpoint after N inputs (default: 1000)"),
        Option("jobs", "N", "so many guests at once, which share the corpus (default: 1)", "j"),
        Option("seed", "N", "changes are others with another seed (default: 1)"),
        Option("engine", "|".join(ENGINES), "what chooses and changes inputs: Corral, or AFL++ (default: corral)"),
        Option("memory", "SIZE", "the guest's (default: 128M for a program, 32M for a kernel)", "m"),
        Option("include", "", "prints the folder of corral_fuzz.h and of the examples, for a compiler's -I"),
        Option("replay", "FILE", "this input alone; prints what comes of it, and a report if that is a finding"),
    ),
    epilog="""\
examples:
  cp $(corral fuzz --include)/*.[ch] .
  clang -O1 -g -static -fsanitize-coverage=trace-pc-guard -c parser.c
  clang -O1 -static parser.o fuzzed.c -o parser
  corral fuzz ./parser --corpus seeds --time 60
  corral fuzz ./parser --replay crashes/crash-0123456789ab
  corral fuzz ./parser --engine afl --time 60
  corral fuzz ./kernel.elf --timeout-ms 100 --jobs 2

exit status: 0 when nothing was found, 1 when something was, now or in an earlier session with the same --crashes""",
)

MOST_JOBS = 256
_REFUSED_BY_AFL = ("executions", "seed")


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    confine.inherited()
    if "include" in arguments.values:
        print(os.path.realpath(sources.folder("fuzz")))
        return 0
    if len(arguments.operands) != 1:
        raise ConfigError("corral fuzz wants the TARGET, a program or a kernel; see its --help")
    values = arguments.values
    engine = values.get("engine", ENGINES[0])
    if engine not in ENGINES:
        raise ConfigError(f"--engine {engine!r} is none of {', '.join(ENGINES)}")
    for name in _REFUSED_BY_AFL if engine == "afl" else ():
        if name in values:
            raise ConfigError(f"--{name} is for --engine corral; leave it out")
    served = engine == "afl" and SERVED in os.environ
    if not served:  # else the vCPU's thread waits for afl-fuzz, and signals end the process as it is
        terminal.leave_on_signals()
    from corral.cli import fuzz_jobs, fuzz_session

    wanted = _wanted(arguments)
    if "replay" in values:
        return fuzz_session.replay(wanted, values["replay"])
    jobs = _number(values, "jobs", 1, MOST_JOBS)
    if engine == "afl":
        return fuzz_session.serve(wanted) if served else fuzz_jobs.afl_fuzz(wanted, words, jobs)
    return fuzz_jobs.several(wanted, words, jobs) if jobs > 1 else fuzz_session.run(wanted)


def _wanted(arguments: Arguments) -> FuzzRequest:
    values = arguments.values
    limit = _number(values, "timeout-ms", 500, 600_000)
    return FuzzRequest(
        os.path.abspath(arguments.operands[0]),
        values.get("corpus", "corpus"),
        values.get("crashes", "crashes"),
        seconds(values["time"], "--time") if "time" in values else None,
        _number(values, "executions", 0, 10**12) or None,
        limit / 1000,
        _number(values, "fresh", 1000, 10**9),
        _number(values, "seed", 1, 10**18),
        parse_size(values["memory"]) if "memory" in values else None,
    )


def _number(values: dict[str, str], name: str, default: int, most: int) -> int:
    if name not in values:
        return default
    number = parse_number(values[name], f"--{name}")
    if not 1 <= number <= most:
        raise ConfigError(f"--{name} {number}: 1 to {most}")
    return number
