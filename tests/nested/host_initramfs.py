"""The nested host's initramfs: a busybox, the modules that it needs in the right order, and an init in shell."""

from __future__ import annotations

import stat

from corral.files.cpio import entry, trailer
from corral.guests.initramfs import busybox
from corral.guests.modules import load_order

# What the host's own root needs, a disk of its own, and KVM. modprobe's names; dependencies are found in the modules
# themselves.
MODULES = ["virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_blk", "crc32c_generic", "ext4", "kvm_amd"]

# $1 of each mount is the tag of a 9p export. cache=loose: nobody else writes to the root while the host runs.
INIT = """#!/bin/sh
/bin/busybox mkdir -p /proc /sys /dev /lower /rw /new
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module || echo "insmod $module failed"; done
mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=loose,ro root /lower || exec sh
mount -t tmpfs -o size=80% rw /rw
mkdir -p /rw/upper /rw/work
mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work overlay /new
for point in proc sys dev; do mount --move /$point /new/$point; done
mkdir -p /new/dev/pts /new/dev/shm
mount -t devpts devpts /new/dev/pts
mount -t tmpfs shm /new/dev/shm
mount -t tmpfs tmp /new/tmp
mount -t tmpfs tmp /new/var/tmp
mount -t cgroup2 groups /new/sys/fs/cgroup
mkdir -p /new/tmp/exchange
mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=none exchange /new/tmp/exchange
mkdir -p /new/tmp/whole
mount --move /lower /new/tmp/whole
if [ -b /new/dev/vda ]; then mkdir -p /new/tmp/disk; mount -t ext4 /new/dev/vda /new/tmp/disk; fi
chmod 666 /new/dev/kvm
cp /bin/busybox /new/tmp/busybox
echo 1 > /new/proc/sys/vm/overcommit_memory
/bin/busybox ip link set lo up
exec switch_root /new /tmp/busybox sh /tmp/exchange/agent
"""

# Reads a command's number from the second serial line, runs it, and answers with its exit status. Says in between
# that the host lives: one that hangs is told from one that works by its silence.
#
# A VM with a vCPU whose APIC is not enabled (KVM_CREATE_VM, KVM_CREATE_IRQCHIP, KVM_CREATE_VCPU) is there all the time:
# with the first VM the host's kernel rewrites branches of its scheduler, with the first such vCPU branches of KVM, and
# with the last ones it writes them back; and once in a hundred times QEMU's translator, with several CPUs, goes on with
# the INT3 that stood there in between, for ever.
AGENT = """#!/tmp/busybox sh
perl -e '
    open(my $kvm, "+<", "/dev/kvm") or die;
    my $fd = ioctl($kvm, 0xae01, 0) or die;
    open(my $vm, "+<&=", int($fd)) or die;
    ioctl($vm, 0xae60, 0) && ioctl($vm, 0xae41, 0) or die;
    sleep' &
stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
echo ready >&3
while sleep 2; do echo alive >&3; done &
while read number <&3; do
    cd /tmp/exchange
    setsid /bin/bash ./$number.command >$number.stdout 2>$number.stderr </dev/null
    status=$?
    sync
    echo "$number $status" >&3
done
"""


def build(modules: str) -> bytes:
    """The archive, for the kernel whose modules are in the folder `modules`."""
    order = load_order(modules, MODULES)
    files = [
        ("init", INIT.encode(), 0o755),
        ("bin/busybox", busybox(), 0o755),
        ("modules/order", "\n".join(name for name, _ in order).encode(), 0o644),
        *((f"modules/{name}", module, 0o644) for name, module in order),
    ]
    folders = [entry(name, stat.S_IFDIR | 0o755) for name in ("dev", "bin", "modules")]
    console = entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    shell = entry("bin/sh", stat.S_IFLNK | 0o777, b"busybox")
    return b"".join(
        [*folders, console, shell, *(entry(name, stat.S_IFREG | mode, data) for name, data, mode in files), trailer()]
    )
