"""What an unmodified client of Firecracker does, by its own classes: run by that client's Python, in namespaces where
/usr/local/bin/firecracker is Corral. Prints JSON; `words` are paths (test_clients.py)."""

import json
import subprocess
import sys
import types

import requests

words = json.loads(sys.argv[1])


def public_address(url: str, **options: object) -> requests.Response:
    """firecracker-python asks a web site for it, and here is no network."""
    answer = requests.Response()
    answer.status_code, answer._content = 200, b"203.0.113.1"
    return answer


class Firewall:
    """In the place of python3-nftables: rules for the tap devices, which are not what is tested."""

    def set_json_output(self, on: bool) -> None:
        pass

    def json_cmd(self, command: object) -> tuple[int, dict[str, list[object]], str]:
        return 0, {"nftables": []}, ""

    def cmd(self, command: str) -> tuple[int, str, str]:
        return 0, "", ""


requests.get = public_address
sys.modules["nftables"] = types.ModuleType("nftables")
sys.modules["nftables"].Nftables = Firewall

from firecracker import MicroVM  # noqa: E402  (the client's)


def agent(socket: str, command: str) -> str:
    """A command in the guest, by its vsock."""
    line = [words["python"], "-c", words["execute"], socket, command]
    return subprocess.run(line, stdout=subprocess.PIPE, timeout=60, check=True, text=True).stdout


def made(ip: str):
    return MicroVM(
        kernel_file=words["kernel"],
        base_rootfs=words["rootfs"],
        overlayfs=True,
        overlayfs_file=words["overlay"],
        ip_addr=ip,
        vcpu=1,
        memory=128,
        vsock_enabled=True,
    )


told = {}
one = made("172.20.0.2")
told["create"] = one.create()
socket = one._vsock_uds_path
told["list"] = [guest["id"] == one._microvm_id for guest in MicroVM.list()]
told["config"] = one.config()
told["first"] = agent(socket, "echo $((6 * 7)) >/run/kept; uname")
told["pause"] = one.pause()
told["resume"] = one.resume()
files = {"memory_path": words["memory"], "snapshot_path": words["snapshot"]}
one.snapshot(action="create", **files)
told["after"] = agent(socket, "cat /run/kept")
told["stopped"] = one._process.stop(one._microvm_id)

two = made("172.20.0.3")
two._network.setup(two._host_dev_name, two._iface_name, two._gateway_ip)
two._run_firecracker()
two.snapshot(action="load", **files)
told["state"] = two._vmm.get_vmm_state(two._microvm_id)
told["kept"] = agent(socket, "cat /run/kept")
two._process.stop(two._microvm_id)
print(json.dumps(told))
