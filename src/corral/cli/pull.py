"""corral pull: a container image into the cache."""

from __future__ import annotations

from corral.cli.options import Command, Option, parse
from corral.cli.terminal import Progress, leave_on_signals
from corral.errors import ConfigError

COMMAND = Command(
    name="pull",
    summary="""\
Fetches the container image NAME, or has another look whether NAME stands for a newer one, and makes a read-only file
system of it in the cache. Prints its digest. corral run needs no pull before it.

NAME as people write it: python:3.12, ghcr.io/x/y@sha256:..., oci:DIR:TAG, oci-archive:FILE, docker-archive:FILE,
containers-storage:NAME, docker-daemon:NAME, or a folder with the files of a system, by a path that begins with / or .
Registries are asked by skopeo, with the authentication files and policies that it has.""",
    operands=("NAME",),
    options=(Option("yes", "", "as root, install skopeo by apt-get if it is missing, unasked"),),
    epilog="""\
examples:
  corral pull python:3.12
  docker save web >web.tar && corral pull docker-archive:web.tar

exit status: 0 done; 2 bad usage, or an image that cannot be used; 3 the host lacks something: skopeo, space""",
)


def run(words: list[str]) -> int:
    arguments = parse(COMMAND, words)
    if arguments is None:
        print(COMMAND.help())
        return 0
    if len(arguments.operands) != 1:
        raise ConfigError("corral pull wants one image; see corral pull --help")
    from corral import oci

    if "yes" in arguments.values:
        from corral.guests import consent

        consent.give()
    leave_on_signals()  # what is unfinished goes
    with Progress() as progress:
        image = oci.prepare(arguments.operands[0], pull="always", progress=progress)
    print(image.digest)
    return 0
