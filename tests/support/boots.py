"""Many boots of one image of the stock Debian, in nested hosts: python -m tests.support.boots [--times N]

Each comes to its login prompt and is switched off by the power button, and e2fsck looks at the file system after each,
which keeps what every boot wrote. An emulated host seldom lives for so long, so a new one takes over after every few
boots, from the image as it was then; boots of a host, or of a guest in it, that died do not count, are told of, and are
done again. What was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
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
    command += ["--into", f"{EXCHANGE}/{after.name}", "sigterm"]
    try:
        with NestedHost() as host:
            done = host.run(command, timeout=PATIENCE * times, live=True)
            if done.status == 0:
                unfinished = after.with_suffix(".part")
                shutil.move(host.exchange / after.name, unfinished)
                unfinished.rename(after)
            return done.status == 0
    except HostDied as error:
        print(f"the emulated host died: {error}", file=sys.stderr, flush=True)
        return False


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.boots")
    parser.add_argument("--times", type=int, default=50)
    times = parser.parse_args().times
    found = distribution.get("debian", generic=False)
    # In the cache: a nested host does not see this machine's /tmp.
    folder = Path(cache.folder("nested", f"{os.path.basename(found.folder)}.boots"))
    folder.mkdir(parents=True, exist_ok=True)
    done = max((int(file.stem) for file in folder.glob("*.tar")), default=0)
    deaths = 0
    while done < times and deaths < DEATHS:
        before = folder / f"{done}.tar"
        some = min(times - done, AT_ONCE)
        if boots(some, str(before) if done else debian_session.packed(found), folder / f"{done + some}.tar"):
            done += some
            before.unlink(missing_ok=True)
        else:
            deaths += 1
        print(f"{done} boots, {deaths} times one died", flush=True)
    if done >= times:
        shutil.rmtree(folder)
    return 0 if done >= times else 1


if __name__ == "__main__":
    sys.exit(main())
