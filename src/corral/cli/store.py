"""corral snapshot push, pull, list, rm and prune: snapshots in a store."""

from __future__ import annotations

import time

from corral.errors import BootError, ConfigError, HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.cli.options import Arguments
    from corral.store import Pushed

WORDS = ("push", "pull", "list", "rm", "prune")
_OPERANDS = {"push": "FILE URL", "pull": "URL FILE", "list": "URL", "rm": "URL", "prune": "URL"}
_OPTIONS = {"list": {"json"}, "push": {"whole"}, "pull": {"digest", "any-host"}, "prune": {"force"}}


def run(arguments: Arguments) -> int:
    """`arguments` of corral snapshot, whose first operand is one of WORDS."""
    from corral import store
    from corral.cli.terminal import Progress, leave_on_signals

    word, *operands = arguments.operands
    given = sorted(arguments.values.keys() - _OPTIONS.get(word, set()))
    if len(operands) != len(_OPERANDS[word].split()) or arguments.rest is not None:
        raise ConfigError(f"corral snapshot {word} wants {_OPERANDS[word]}; see corral snapshot --help")
    if given:
        raise ConfigError(f"corral snapshot {word} takes no --{given[0]}; leave it out")
    leave_on_signals()
    values = arguments.values
    before = time.monotonic()
    if word == "push":
        with Progress() as progress:
            pushed = store.push(operands[0], operands[1], "whole" in values, _late(progress))
        tell_pushed(operands[1], pushed, before)
    elif word == "pull":
        with Progress() as progress:
            url, path = operands
            fetched = store.pull(url, path, values.get("digest"), "any-host" in values, _late(progress))
        print(f"{operands[1]}: {fetched} chunks fetched, in {_ms(before)} ms")
    elif word == "list":
        print(_json(operands[0])) if "json" in values else _list(operands[0])
    elif word == "rm":
        store.remove(operands[0])
    else:
        print(f"removed {store.prune(operands[0], 'force' in values)} chunks")
    return 0


def _late(progress: Callable[[str], None]) -> Callable[[str], None]:
    """What takes less than a second says nothing on its way."""
    begin = time.monotonic() + 1

    def tell(text: str) -> None:
        if time.monotonic() > begin:
            progress(text)

    return tell


def tell_pushed(url: str, pushed: Pushed, before: float) -> None:
    from corral.images.content import size_text

    sent = f"{pushed.sent} of {pushed.chunks} chunks sent, {size_text(pushed.bytes)}"
    print(f"{url}: {sent}, in {_ms(before)} ms\n{pushed.digest}")


def _ms(before: float) -> int:
    return round((time.monotonic() - before) * 1000)


def _json(url: str) -> str:
    import json

    from corral import store
    from corral.snapshot import values

    return json.dumps([values.to_plain(one) for one in store.snapshots(url)], indent=2)


def _list(url: str) -> None:
    from corral import store
    from corral.printable import printable

    rows = [("NAME", "PUSHED", "MEMORY", "CPUS", "CHUNKS", "KVM", "DIGEST")]
    for one in store.snapshots(url):
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(min(max(one.saved, 0), 1 << 40)))
        memory = f"{one.memory >> 20} MiB"
        rows.append((one.name, when, memory, str(one.cpus), str(one.chunks), one.kind, one.digest))
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(6)]
    for row in rows:
        print(printable("".join(f"{text:{width}}" for text, width in zip(row, widths, strict=False)) + row[6]))


def fetched(url: str) -> str:
    """The path of a copy in this host's cache. By a process of its own where a library of the network is needed: its
    threads and memory are nothing for a guest's process. Raises BootError, ConfigError, HostError."""
    from corral import store
    from corral.store import address

    if not address.of_snapshot(url).scheme:
        return store.local_copy(url)
    import subprocess
    import sys

    from corral.errors import CorralError

    done = subprocess.run([sys.executable, "-m", "corral.store", url], stdout=subprocess.PIPE, check=False)
    text = done.stdout.decode(errors="replace").rstrip("\n")
    if done.returncode == 0 and text:
        return text
    kinds = {one.exit_status: one for one in (BootError, HostError)}
    raise kinds.get(done.returncode, CorralError)(text or f"{url!r} cannot be fetched: its process was killed")
