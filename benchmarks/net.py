"""net: a network card's data plane with no machine around it, what --net costs a start, and bytes through passt.

The data plane is a driver and a card on one core: "no other end" is all that the card does to send a frame but the
system call, "received" all to deliver one, "sent" that with one system call a frame, into /dev/null as a tap.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks.measure import interleaved, report, seconds, verdict
from corral.guests import cache

ROOT = Path(__file__).resolve().parents[1]
ROUNDS, STARTS, TRANSFERS = 9, 20, 3
FRAMES = 1_000_000
MODES = {"no other end": "drop", "received": "receive", "sent, a system call each": "send"}
MOST_NS = 1e9 / 3e6  # 3 million frames a second
MOST_NS_LARGE = 65_000 * 8 / 100.0  # 100 Gbit/s
MOST_START = 0.005  # seconds
BYTES = 64 << 20
CORRAL = [sys.executable, "-m", "corral", "boot"]


def program() -> str:
    """net.c, compiled together with the data plane itself."""
    target = cache.folder("bench", "net")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    csrc = ROOT / "csrc"
    names = ("virtio/virtq.c", "virtio/virtio_irq.c", "virtio/queue_worker.c", "host/thread.c")
    sources = [Path(__file__).with_name("net.c"), *sorted(csrc.glob("net/*.c")), *(csrc / name for name in names)]
    flags = ["-O2", "-std=gnu11", "-pthread", "-Wl,--wrap=corral_worker_add_thread"]
    flags += [f"-I{csrc / part}" for part in ("net", "virtio", "host")]
    subprocess.run(["gcc", *flags, *map(str, sources), "-o", target], check=True)
    return target


def a_frame(binary: str, mode: str, size: int) -> float:
    """Seconds, on the last of this process's CPUs."""
    cpu = max(os.sched_getaffinity(0))
    command = ["taskset", "-c", str(cpu), binary, mode, str(size), str(FRAMES)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) / 1e9


def data_plane() -> list[bool]:
    binary, met = program(), []
    for size, most in ((1500, MOST_NS), (65_000, MOST_NS_LARGE)):
        contenders = {
            name: lambda mode=mode, size=size: a_frame(binary, mode, size)  # type: ignore[misc]
            for name, mode in MODES.items()
        }
        medians = report(f"net: a frame of {size} bytes", interleaved(contenders, ROUNDS), "no other end", "us")
        for name in ("no other end", "received"):
            met.append(verdict(f"{name}, {size} bytes", medians[name] * 1e9, most, "ns"))
    return met


def start() -> list[bool]:
    contenders = {
        name: lambda words=words: seconds([*CORRAL, *words, "--", "true"])  # type: ignore[misc]
        for name, words in {"corral boot -- true": [], "with --net": ["--net"]}.items()
    }
    medians = report("net: a start", interleaved(contenders, STARTS), "corral boot -- true")
    extra = medians["with --net"] - medians["corral boot -- true"]
    return [verdict("what --net adds to a start", extra * 1e3, MOST_START * 1e3, "ms")]


def transfer(script: str, answer: bytes) -> float:
    """Seconds of a connection to this host by which a guest sends BYTES, or gets the answer to its
    first words."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        took: list[float] = []

        def serve() -> None:
            line = server.accept()[0]
            begin = time.perf_counter()
            if answer:
                line.recv(1 << 20)
                line.sendall(answer)
            left = 0 if answer else BYTES  # not the end of the connection, which old versions of passt are slow to tell
            while (got := len(line.recv(1 << 20))) < left or (answer and got):
                left -= got
            took.append(time.perf_counter() - begin)
            line.close()

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        seconds([*CORRAL, "--net", "--", script.replace("PORT", str(server.getsockname()[1]))])
        serving.join()
    return took[0]


def through_passt() -> None:
    """There is nothing to hold it against on a host where no peer boots Linux: it is shown."""
    page = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % BYTES + bytes(BYTES)
    contenders = {
        "guest to host": lambda: transfer(f"head -c {BYTES} /dev/zero | nc 10.0.2.2 PORT", b""),
        "host to guest": lambda: transfer("wget -q -O /dev/null http://10.0.2.2:PORT/", page),
    }
    medians = report(f"net: {BYTES >> 20} MiB through passt", interleaved(contenders, TRANSFERS), "guest to host")
    for name, value in medians.items():
        print(f"  {name}: {BYTES * 8 / value / 1e9:.2f} Gbit/s")


def main() -> bool:
    met = data_plane() + start()
    through_passt()
    return all(met)
