"""What a distribution's image is made of, and the names of what is made."""

from __future__ import annotations

IMAGE = "root.img"
ABOUT = "release"
INIT_OF_SMALL = "/usr/local/sbin/corral-init"  # in the image: what Corral's small kernel starts
SIZE = 4 << 30  # of the image, in bytes; it is sparse
VARIANT = "minbase"
# systemd, and what it wants for a login and for the power button; what a person misses at once; sshd for corral ssh.
PACKAGES = (
    *("systemd-sysv", "udev", "dbus", "libpam-systemd", "kmod", "e2fsprogs", "procps", "less", "vim-tiny"),
    "openssh-server",
)
MOTD = "poweroff ends this guest. It has a network if corral boot was told so, by --net."
HOOKS = (
    'chroot "$1" passwd --delete root',
    'echo corral >"$1/etc/hostname"',
    'echo "127.0.0.1 localhost corral" >"$1/etc/hosts"',
    f'echo "{MOTD}" >"$1/etc/motd"',
    # Every guest begins with the image as it is. An empty one is no first boot, which would ask for locale and keymap.
    ': >"$1/etc/machine-id"',
    'rm -f "$1/etc/resolv.conf"',
    'chmod 755 "$1/usr/local/sbin/"*',
    # What looks for LVM, and a login on a screen: this machine has neither.
    'chroot "$1" systemctl disable --quiet e2scrub_reap.service getty@tty1.service',
    # corral ssh starts one sshd for each connection, with a key of the guest's own. The image's would be all guests'.
    'chroot "$1" systemctl disable --quiet ssh.service ssh.socket',
    'rm -f "$1"/etc/ssh/ssh_host_*',
    # As systemd-update-done does: its packages' users are there, so no boot has to look for that.
    'touch --reference="$1/usr" "$1/etc/.updated" "$1/var/.updated"',
)
FILES = ("small-init", "power")
POWER = ("poweroff", "reboot", "halt")
