"""corral api: a guest by HTTP over a Unix socket."""

from __future__ import annotations

from corral.cli.options import Command, Option, parse
from corral.errors import ConfigError

COMMAND = Command(
    name="api",
    summary="""\
Serves an API over a Unix socket, by which its client describes a guest, starts it, pauses and saves it: that of
Firecracker, so its clients work, and more under /corral/. One process has one guest, and ends with it.
docs/api.md has the table of requests, and what differs.""",
    options=(
        Option("socket", "PATH", "where it listens; for this user alone"),
        Option("id", "NAME", "what the guest is called: corral ps, exec, logs and others find it by that"),
        Option("config-file", "FILE", "set all that this JSON has, and start the guest"),
        Option("openapi", "", "print the API as a document of OpenAPI 3.1"),
        Option("jail", "on|off|report", "give up all rights before the guest runs, or tell what that would refuse"),
    ),
    epilog="""\
examples:
  corral api --socket /tmp/guest.sock
  corral api --socket /tmp/guest.sock --id web --config-file vm.json
  corral api --openapi

a client:
  curl --unix-socket /tmp/guest.sock http://localhost/
  curl --unix-socket /tmp/guest.sock -X PUT http://localhost/boot-source -d '{"kernel_image_path": "vmlinux"}'
  curl --unix-socket /tmp/guest.sock -X PUT http://localhost/actions -d '{"action_type": "InstanceStart"}'""",
)


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    values = arguments.values
    if "openapi" in values:
        import json

        from corral.api import openapi

        print(json.dumps(openapi.document(), indent=1))
        return 0
    if "socket" not in values:
        raise ConfigError("corral api needs a place to listen at: --socket PATH")
    from corral.cli import api_serving

    return api_serving.serve(values["socket"], values.get("id", ""), values.get("config-file"), values.get("jail"))
