"""Many boots of one image of the stock Debian, in nested hosts: python -m tests.support.boots [--times N]

Each logs in and powers off, and e2fsck looks at the file system after each, which keeps what every boot wrote. An
emulated host seldom lives for so long, so a new one takes over after every few boots, from the image as it was then;
boots of a host, or of a guest in it, that died do not count, are told of, and are done again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from corral.guests import cache, distribution
from tests.nested.host import EXCHANGE, HostDied, NestedHost
from tests.support import debian_session

AT_ONCE = 5
PATIENCE = 300.0  # seconds for a boot, from its start to e2fsck's end
DEATHS = 5


def boots(times: int, before: str, after: Path) -> bool:
    """So many, in a host of their own. Whether all were well; then `after` is an archive of the image."""
    command = [sys.executable, "-m", "tests.support.debian_session", "--times", str(times), "--from", before]
    command += ["--into", f"{EXCHANGE}/{after.name}", "poweroff"]
    try:
        with NestedHost() as host:
            done = host.run(command, timeout=PATIENCE * times, live=True)
            if done.status == 0:
                shutil.move(host.exchange / after.name, after)
            return done.status == 0
    except HostDied as error:
        print(f"the emulated host died: {error}", file=sys.stderr, flush=True)
        return False


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.boots")
    parser.add_argument("--times", type=int, default=50)
    left = parser.parse_args().times
    before = debian_session.packed(distribution.get("debian", generic=False))
    deaths = 0
    # In the cache, for a nested host does not see this machine's /tmp.
    parent = cache.folder("nested")
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        while left and deaths < DEATHS:
            some, after = min(left, AT_ONCE), Path(folder, f"{left}.tar")
            if boots(some, before, after):
                left, before = left - some, str(after)
            else:
                deaths += 1
            print(f"{left} boots to go, {deaths} times one died", flush=True)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
