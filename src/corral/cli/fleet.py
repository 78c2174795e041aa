"""corral fleet: many guests on many hosts, by Ray."""

from __future__ import annotations

import sys

from corral.cli import terminal
from corral.cli.options import Arguments, Command, Option, parse, seconds
from corral.config import parse_number, parse_size
from corral.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.fleet.job import FleetJob, Matrix

VERBS = {
    "up": "this host runs guests for a Ray cluster: a new one, or the one at --address",
    "run": "-n guests of IMAGE, wherever there is room; results as they come",
    "boot-matrix": "boots each of --kernels with each of --images and --cpus, and tells which fail, and why",
    "ps": "the hosts of the cluster, and the jobs that run there",
    "stop": "ends the guests of a JOB, or of all; with --node this host leaves",
}
SHARE = 0.125  # CPUs of a host that a guest takes, where nothing is said: 8 guests a CPU
_JOIN = "corral fleet up --address"
MATRIX_TIME = 600.0  # seconds for a guest of a matrix, where nothing is said

COMMAND = Command(
    name="fleet",
    summary="".join(f"  corral fleet {name:12} {text}\n" for name, text in VERBS.items())
    + """
IMAGE is the file of a snapshot (corral snapshot), or what corral run takes. {i} in COMMAND is a guest's number, from 1.
Each guest runs in a process and a jail of its own. Ray (pip install 'corral[ray]') places them; without a cluster, run
and boot-matrix begin one on this host, which ends with them.""",
    operands=("ACTION", "IMAGE|JOB"),
    words=tuple(VERBS),
    rest="COMMAND...",
    options=(
        Option("address", "HOST:PORT", "the cluster (default: RAY_ADDRESS, or that of fleet up here)"),
        Option("number", "N", "how many guests (default: 1)", "n"),
        Option("jobs", "N", "how many at once, at most (default: as many as the hosts have room for)", "j"),
        Option("retries", "N", "how often a guest is started again whose host went away (default: 0)"),
        Option("memory", "SIZE", "of a guest that is not from a snapshot (default: 1G)", "m"),
        Option("cpus", "N", "its vCPUs (default: 1); for boot-matrix a list, like 1,2,4"),
        Option("share", "CPUS", "CPUs of a host that a guest takes, like 1 or 0.5 (default: 0.125)"),
        Option("timeout", "S", "end each guest S seconds after it has begun, with status 124"),
        Option("kernels", "LIST", "boot-matrix: kernels as boot --kernel takes them, with commas between"),
        Option("images", "LIST", "boot-matrix: what boot takes, like debian,ubuntu:noble (default: the small Linux)"),
        Option("guests", "N", "up: how many guests this host may have at once (default: 8 for each CPU)"),
        Option("node", "", "stop: what fleet up began on this host ends too"),
        Option("json", "", "for programs: run and boot-matrix write a line of JSON for each guest"),
    ),
    epilog="""\
examples:
  corral snapshot ready.snapshot
  corral fleet run ready.snapshot -n 1000 --retries 1 -- 'echo guest {i}'
  corral fleet run python:3.12 -n 20 --json -- python -c 'print({i})'
  corral fleet up                                    on one host; it says what to run on the others
  corral fleet up --address 10.0.0.1:6379            on each other
  corral fleet ps
  corral fleet boot-matrix --kernels small,./vmlinuz --cpus 1,2 -- uname -r

docs/fleet.md has the rest.

exit status: 0 when it is so for all guests; else that of the first, by number, whose is another; 4 for one that was
lost with its host; 143 for one that was stopped; 3: there is no Ray here, or no room""",
)


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    if not arguments.operands:
        print(COMMAND.help())
        return 2
    action, *operands = arguments.operands
    if action not in VERBS:
        from corral import spelling

        raise ConfigError(f"{spelling.unknown('action of corral fleet', action, VERBS)}; see corral fleet --help")
    if len(operands) > 1 or (operands and action not in ("run", "stop")):
        raise ConfigError(f"corral fleet {action} takes no {operands[-1]!r}; see corral fleet --help")
    if arguments.rest is not None and action not in ("run", "boot-matrix"):
        raise ConfigError(f"corral fleet {action} takes no COMMAND; see corral fleet --help")
    terminal.leave_on_signals()
    if action == "up":
        return _up(arguments)
    if action == "run":
        return _run(_job(arguments, operands), None, arguments)
    if action == "boot-matrix":
        matrix = _matrix(arguments)
        return _run(_matrix_job(matrix, arguments), matrix, arguments)
    if action == "ps":
        return _ps(arguments)
    return _stop(arguments, operands)


def count(arguments: Arguments, name: str, least: int, most: int) -> int | None:
    """An option's number; None: it was not given. Raises ConfigError."""
    if name not in arguments.values:
        return None
    number = parse_number(arguments.values[name], f"--{name}")
    if not least <= number <= most:
        raise ConfigError(f"--{name} {number}: {least} to {most}")
    return number


def _share(arguments: Arguments) -> float:
    text = arguments.values.get("share", str(SHARE))
    try:
        share = float(text)
    except ValueError:
        raise ConfigError(f"--share {text!r} is no number of CPUs") from None
    if not 0.001 <= share <= 1024:
        raise ConfigError(f"--share {text}: 0.001 to 1024 CPUs")
    return share


def _limit(arguments: Arguments) -> float | None:
    return seconds(arguments.values["timeout"]) if "timeout" in arguments.values else None


def _memory(arguments: Arguments) -> int | None:
    return parse_size(arguments.values["memory"]) if "memory" in arguments.values else None


def _job(arguments: Arguments, operands: list[str]) -> FleetJob:
    from corral.fleet import job

    if not operands:
        raise ConfigError("corral fleet run needs an IMAGE; see corral fleet --help")
    if given := {"kernels", "images"} & arguments.values.keys():
        raise ConfigError(f"--{min(given)} is for corral fleet boot-matrix")
    number = count(arguments, "number", 1, job.MOST) or 1
    cpus = count(arguments, "cpus", 1, 64)
    command = arguments.rest or []
    return job.of_image(operands[0], command, number, _memory(arguments), cpus, _share(arguments), _limit(arguments))


def _matrix(arguments: Arguments) -> Matrix:
    from corral.fleet.job import Matrix

    values = arguments.values
    if "number" in values:
        raise ConfigError("-n is for corral fleet run; a matrix has a guest for each case")
    kernels, images, cpus = (values.get(name, "") for name in ("kernels", "images", "cpus"))
    numbers = tuple(parse_number(text, "--cpus") for text in cpus.split(",")) if cpus else (1,)
    return Matrix(tuple(kernels.split(",")), tuple(images.split(",")), numbers)


def _matrix_job(matrix: Matrix, arguments: Arguments) -> FleetJob:
    limit = _limit(arguments)
    limit = MATRIX_TIME if limit is None else limit
    return matrix.job(arguments.rest or [], _memory(arguments), _share(arguments), limit)


def _run(job: FleetJob, matrix: Matrix | None, arguments: Arguments) -> int:
    from corral.cli.fleet_results import FleetResults

    at_once = count(arguments, "jobs", 1, 1_000_000)
    retries = count(arguments, "retries", 0, 100) or 0
    from corral.ray import cluster
    from corral.ray.engine import Engine

    results = FleetResults(job, matrix, "json" in arguments.values)
    ray = cluster.connect(arguments.values.get("address"))
    try:
        with Engine(ray, job, retries, at_once) as engine, results:
            signals = _noted_signals()
            for end in engine.run(lambda: bool(signals)):
                if signals:
                    return 128 + signals[0]
                results.tell(end, engine.account)
        return results.conclude(engine.account)
    finally:
        ray.shutdown()


def _noted_signals() -> list[int]:
    """Gets the signals that are to end the job. Waiting in Ray turns an exception of a handler into another
    one, so a handler only notes."""
    import signal

    noted: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, frame: noted.append(number))
    return noted


def _up(arguments: Arguments) -> int:
    guests = count(arguments, "guests", 1, 100_000)
    from corral.ray import node

    address = node.begin(arguments.values.get("address"), guests)
    print(f"this host runs guests; corral fleet stop --node ends that. Others join by:\n  {_JOIN} {address}")
    return 0


def _ps(arguments: Arguments) -> int:
    from corral.ray import cluster, jobs

    ray = cluster.connect(arguments.values.get("address"), begin=False)
    hosts, running = cluster.nodes(ray), jobs.look(ray)
    if "json" in arguments.values:
        import json

        print(json.dumps({"hosts": [host.values() for host in hosts], "jobs": running}, indent=2))
        return 0
    print(f"{'HOST':24} {'ADDRESS':24} {'CPUS':>5} {'MEMORY':>9} {'GUESTS':>7}")
    for host in hosts:
        print(f"{host.name:24} {host.address:24} {host.cpus:5g} {host.memory >> 20:5} MiB {host.guests:7}")
    if running:
        print(f"\n{'JOB':24} {'HOST':24} {'RUNNING':>8} {'BEGUN':>8}")
    for one in running:
        where = one["host"] if "begun" in one else "(waits for room)"
        print(f"{one['job']:24} {where:24} {one.get('running', 0):8} {one.get('begun', 0):8}")
    return 0


def _stop(arguments: Arguments, operands: list[str]) -> int:
    if operands and "node" in arguments.values:
        raise ConfigError("--node ends all that this host runs; leave the JOB out")
    from corral.ray import cluster, jobs, node

    if "node" in arguments.values:
        if not node.end():
            print("corral: this host is no node that corral fleet up began", file=sys.stderr)
        return 0
    ray = cluster.connect(arguments.values.get("address"), begin=False)
    jobs.stop(ray, operands[0] if operands else None)
    return 0
