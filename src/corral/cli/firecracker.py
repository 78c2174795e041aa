"""corral firecracker: corral api, by Firecracker's command line. A link to `corral` that is called firecracker is this,
so clients that start it start Corral."""

from __future__ import annotations

from corral.cli.options import Command, Option, parse

SOCKET = "/run/firecracker.socket"

COMMAND = Command(
    name="firecracker",
    summary="""\
Serves Firecracker's API as `corral api` does, by the command line that Firecracker has. Clients start a program
with the name firecracker: make it a link to corral. Options that have no use here are taken and ignored.""",
    options=(
        Option("api-sock", "PATH", f"where it listens (default: {SOCKET})"),
        Option("no-api", "", "no socket; goes with --config-file"),
        Option("id", "NAME", "what the guest is called"),
        Option("config-file", "FILE", "set all that this JSON has, and start the guest"),
        Option("log-path", "FILE", "a log of the requests"),
        Option("level", "LEVEL", "of the log: Error, Warning, Info, Debug, Trace, Off"),
        Option("show-level", "", "the level in each line of the log"),
        Option("show-log-origin", "", "ignored"),
        Option("module", "PATH", "ignored"),
        Option("metrics-path", "FILE", "where FlushMetrics writes"),
        Option("boot-timer", "", "ignored"),
        Option("start-time-us", "N", "ignored"),
        Option("start-time-cpu-us", "N", "ignored"),
        Option("parent-cpu-time-us", "N", "ignored"),
        Option("no-seccomp", "", "without a jail, as corral api --jail off"),
        Option("enable-pci", "", "ignored: devices are on virtio's MMIO transport"),
        Option("version", "", "print which version of Firecracker's API this is"),
    ),
    epilog="""\
examples:
  ln -s "$(command -v corral)" /usr/local/bin/firecracker
  corral firecracker --api-sock /tmp/guest.sock --id web
  corral firecracker --no-api --config-file vm.json""",
)


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    values = arguments.values
    if "version" in values:
        from corral import __version__
        from corral.api.service import SPOKEN

        print(f"Firecracker v{SPOKEN}\n\nIts API, served by Corral {__version__}")
        return 0
    from corral.cli import api_serving
    from corral.errors import ConfigError

    if "no-api" in values and "config-file" not in values:
        raise ConfigError("--no-api goes with --config-file FILE, which describes the guest")
    logger = {name.replace("-", "_"): values[name] for name in ("log-path", "level") if name in values}
    given = {
        "logger": logger | ({"show_level": True} if "show-level" in values else {}) if logger else None,
        "metrics": {"metrics_path": values["metrics-path"]} if "metrics-path" in values else None,
    }
    return api_serving.serve(
        None if "no-api" in values else values.get("api-sock", SOCKET),
        values.get("id", ""),
        values.get("config-file"),
        "off" if "no-seccomp" in values else None,
        {name: one for name, one in given.items() if one},
    )
