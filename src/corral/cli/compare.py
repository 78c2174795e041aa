"""corral compare: native processes, containers, Corral and QEMU, measured side by side."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from corral.cli import terminal
from corral.cli.options import Arguments, Command, Option, parse
from corral.config import parse_number, parse_size
from corral.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.compare.experiment import ExperimentRequest
    from corral.compare.samples import Results

COMMAND = Command(
    name="compare",
    summary="""\
Measures what virtualization costs on this machine: the same static programs as native processes, in containers, in
Corral's virtual machines and in QEMU's, in turns. Ends with the answers, a table, and a report, samples.json and
samples.csv in a folder. Who cannot run here is told with the reason. Ctrl-C ends it early and keeps what was measured.
`corral compare show JSON` tells an earlier run again; with two files, of two machines or days, where they differ.""",
    operands=("show", "JSON", "JSON"),
    words=("show",),
    options=(
        Option("only", "NAME,...", "only these measures or workloads (see --list); rate is rate-1, rate-10 and so on"),
        Option("contenders", "NAME,...", "only these; may be repeated (see --list)"),
        Option("runs", "N", "rounds that count (default: 10; 6 are the fewest that show a difference)"),
        Option("quick", "", "six rounds of what most people ask: start, rate, memory, computing, system calls"),
        Option("short", "", "one round of few measures: whether all works, not what it costs"),
        Option("out", "DIR", "where the report goes (default: compare-DATE-TIME here)"),
        Option("memory", "SIZE", "a guest's memory (default: 128M)"),
        Option("pin", "CPUS", "where one alone runs, like 1 or 2-3 (default: the last CPU)"),
        Option("check", "JSON", "an earlier samples.json: exit status 1 if Corral is worse now, by over 5 %, p < 0.01"),
        Option("list", "", "print contenders and measures, and end"),
    ),
    epilog="""\
examples:
  corral compare                                       everything; takes a while
  corral compare --only start,rate-10 --runs 20        start-up, well measured
  corral compare --quick                               the answers, in about two minutes
  corral compare --contenders native,corral --short    whether it works
  corral compare show monday/samples.json today/samples.json
  corral compare --check last/samples.json             is Corral slower than it was?

exit status: 0; 1 worse than the baseline of --check; 2 bad usage; 3 the host lacks something;
  130 after Ctrl-C, with a report of what there was""",
)

REGRESSION = 1
RUNS, MOST_RUNS = 10, 1000
QUICK_RUNS = 6  # the fewest that show a difference
SHORT_RUNS = 1
MEMORY = 128 << 20


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    if "list" in arguments.values:
        print(_list())
        return 0
    terminal.leave_on_signals()
    if arguments.operands:
        return _show(arguments.operands)
    request = _request(arguments)
    folder = Path(arguments.values.get("out", time.strftime("compare-%Y%m%d-%H%M%S")))
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {str(folder)!r} is a file; name a folder")
    baseline = Path(arguments.values["check"]) if "check" in arguments.values else None
    return _measure(request, folder, baseline)


def _show(operands: list[str]) -> int:
    from corral.compare import analysis, files, table, two_runs
    from corral.printable import printable

    word, *paths = operands
    if word != "show":
        raise ConfigError(f"corral compare does not know what to do with {word!r}; see corral compare --help")
    if len(paths) not in (1, 2):
        raise ConfigError(
            "corral compare show takes one or two files: corral compare show a/samples.json b/samples.json"
        )
    found = [files.read_json(Path(path)) for path in paths]
    if len(found) == 2:
        print(two_runs.text(*found))
    else:
        print(printable(table.text(found[0], analysis.tables(found[0])), keep="\n"))
    return 0


def _measure(request: ExperimentRequest, folder: Path, baseline: Path | None) -> int:
    from corral.compare import analysis, experiment, files, report_html, table
    from corral.compare.progress import ProgressBar
    from corral.compare.samples import Results

    before = files.read_json(baseline) if baseline else None
    results, status = Results({}), 0
    try:
        with ProgressBar() as bar:
            experiment.run(request, results, bar)
    except (KeyboardInterrupt, SystemExit) as end:
        results.interrupted = True
        status = end.code if isinstance(end, SystemExit) and isinstance(end.code, int) else 130
        if not results.samples and not results.ledger:
            print("corral: interrupted before anything was measured", file=sys.stderr)
            return status
    files.write_json(results, folder / "samples.json")
    files.write_csv(results, folder / "samples.csv")
    tables = analysis.tables(results)
    print(table.text(results, tables))
    files.write_text(report_html.render(results, tables), folder / "report.html")
    print(f"\nThe report is {folder / 'report.html'}; samples.json and samples.csv are beside it.")
    return _check(before, results) if before and not status else status


def _check(before: Results, now: Results) -> int:
    from corral.compare.check import changes

    found = changes(before, now)
    print("\n" + "\n".join(map(str, found)))
    return REGRESSION if any(change.is_regression for change in found) else 0


def _request(arguments: Arguments) -> ExperimentRequest:
    from corral.compare import contenders, suite
    from corral.compare.experiment import ExperimentRequest

    values = arguments.values
    short, quick = "short" in values, "quick" in values
    if short and quick:
        raise ConfigError("--short and --quick exclude each other; leave one out")
    only = _names(arguments, "only")
    named = [name for name in only if name != "ledger"]
    usual = SHORT_RUNS if short else QUICK_RUNS if quick else RUNS
    rounds = parse_number(values["runs"], "--runs") if "runs" in values else usual
    if not 1 <= rounds <= MOST_RUNS:
        raise ConfigError(f"--runs {rounds}: it must be 1 to {MOST_RUNS}")
    memory = parse_size(values["memory"]) if "memory" in values else MEMORY
    if not 32 << 20 <= memory <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        raise ConfigError(f"--memory {values['memory']}: it must be 32M at least, and less than this host has")
    return ExperimentRequest(
        contenders=contenders.choose(_names(arguments, "contenders")),
        measures=[]
        if only and not named
        else suite.choose(named or (list(suite.QUICK) if quick else []), short, memory),
        rounds=rounds,
        warm_up=0 if short or quick else 1,
        pinned=_pinned(values.get("pin")),
        memory=memory,
        ledger=not (only or quick) or "ledger" in only,
    )


def _names(arguments: Arguments, option: str) -> list[str]:
    return [name for text in arguments.every.get(option, []) for name in text.split(",") if name]


def _pinned(text: str | None) -> tuple[int, ...]:
    from corral.numa import cpu_list

    allowed = os.sched_getaffinity(0)
    if text is None:
        return (max(allowed),)
    try:
        cpus = tuple(cpu_list.parse(text))
    except ValueError:
        cpus = ()
    if not cpus or not allowed.issuperset(cpus):
        raise ConfigError(f"--pin {text!r}: name CPUs among {cpu_list.text(allowed)}")
    return cpus


def _list() -> str:
    from corral.compare import contenders, suite

    lines = ["contenders", *(f"  {contender.name:16} {contender.title}" for contender in contenders.ALL)]
    lines += [
        "measures",
        f"  {'ledger':16} where the time of a start goes",
        *(f"  {measure.name:16} {measure.title}" for measure in suite.everything()),
    ]
    return "\n".join(lines)
