"""Runs in a nested host: boots a guest by a plan and looks at where it is, from outside and from inside.

python -m tests.nested.placed OPTIONS... -- COMMAND: prints a JSON object with `plan`, what `corral boot --plan-json`
says; `threads`, by name the CPUs that each may run on; `memory`, (policy, bytes by node) of each large mapping;
`guest`, what COMMAND printed in it; and `second`, the plan that another guest would get meanwhile, None for none.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CORRAL = [sys.executable, "-m", "corral", "boot"]
LARGE = 16 << 20
KERNELS_OWN = 0x4010  # PF_USER_WORKER and PF_IO_WORKER of the kernel's sched.h


def plan(options: list[str]) -> object:
    done = subprocess.run([*CORRAL, *options, "--plan-json"], capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else None


def threads(pid: int) -> dict[str, str]:
    """Without those that the kernel makes for itself in the process, as KVM's that looks after large pages since 6.12:
    where these run is the kernel's to say."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        flags = int((task / "stat").read_text().rpartition(")")[2].split()[6])
        if flags & KERNELS_OWN:
            continue
        status = dict(line.split(":\t") for line in (task / "status").read_text().splitlines() if ":\t" in line)
        found[status["Name"]] = status["Cpus_allowed_list"]
    return found


def memory(pid: int) -> list[tuple[str, dict[str, int]]]:
    found = []
    for line in Path(f"/proc/{pid}/numa_maps").read_text().splitlines():
        words = line.split()
        page = next((int(word[18:]) for word in words if word.startswith("kernelpagesize_kB=")), 4) << 10
        nodes = {word[1:].split("=")[0]: int(word.split("=")[1]) * page for word in words if word[0] == "N"}
        if sum(nodes.values()) >= LARGE:
            found.append((words[1], nodes))
    return found


def main() -> None:
    at = sys.argv.index("--")
    options, command = sys.argv[1:at], sys.argv[at + 1]
    result: dict[str, object] = {"plan": plan(options)}
    script = f"{command}\necho all is said\nsleep 1000"
    guest = subprocess.Popen(
        [*CORRAL, *options, "--prealloc", "--", script], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert guest.stdout
    said = []
    for line in guest.stdout:
        said.append(line.decode(errors="replace").rstrip("\r\n"))
        if said[-1] == "all is said":
            break
    else:
        guest.wait()
        sys.exit("\n".join([*said[-40:], f"the guest ended before all was said: status {guest.returncode}"]))
    result |= {"guest": said, "threads": threads(guest.pid), "memory": memory(guest.pid), "second": plan(options)}
    guest.kill()
    guest.wait()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
