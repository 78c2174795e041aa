"""A seed disk for cloud-init: what a distribution's cloud image asks at its first start, answered.

Source: cloud-init's documentation, "NoCloud": a file system with the label CIDATA, and user-data and meta-data in it.
"""

from __future__ import annotations

import os

from corral.errors import ConfigError
from corral.files import iso9660, magic
from corral.files.file import ImageFile
from corral.guests import cache, sources

LABEL = "CIDATA"
MAX_SIZE = 16 << 20  # bytes of user-data
_MAX_KEYS = 1 << 20
# What cloud-init takes user-data for, by its first line ("User-data formats").
_KINDS = (
    "#cloud-config",
    "#!",
    "#include",
    "#cloud-boothook",
    "#part-handler",
    "## template: jinja",
    "Content-Type:",
    "MIME-Version:",
)
_KEY_TYPES = ("ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-")
_LABEL_MAX, _NAME_MAX = 63, 253
_NAME = "abcdefghijklmnopqrstuvwxyz0123456789-"


def disk(user_data: str | None, hostname: str | None = None, ssh_key: str | None = None) -> str:
    """The path of an image with the user-data of one file, the public keys of another, and a host name.

    It is kept in the cache under a digest of what is in it, readable to its owner alone. Raises ConfigError for the
    name, BootError for the files.
    """
    content = image(
        read_user_data(user_data) if user_data is not None else b"#cloud-config\n{}\n",
        None if hostname is None else check_hostname(hostname),
        read_keys(ssh_key) if ssh_key is not None else [],
    )
    target = cache.folder("cloud-init", sources.digest(content))
    with cache.making(target) as unfinished:
        if unfinished:
            fd = os.open(os.path.join(unfinished, "seed.iso"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(fd, "wb") as file:
                file.write(content)
    return os.path.join(target, "seed.iso")


def image(user_data: bytes, hostname: str | None, keys: list[str]) -> bytes:
    """The bytes of the disk. The same input makes the same disk; other input is another instance to cloud-init, which
    then does its work anew."""
    import json  # whose strings are YAML's too

    told = "".join([f"local-hostname: {json.dumps(hostname)}\n"] if hostname else [])
    told += "".join(["public-keys:\n", *(f"  - {json.dumps(key)}\n" for key in keys)] if keys else [])
    instance = sources.digest(user_data, told.encode())
    meta_data = f"instance-id: corral-{instance}\n{told}"
    return iso9660.image(LABEL, {"meta-data": meta_data.encode(), "user-data": user_data})


def read_user_data(path: str) -> bytes:
    """The file, found to be what cloud-init would not ignore."""
    with ImageFile(path, "user-data") as file:
        if file.size > MAX_SIZE:
            raise file.error(f"is larger than {MAX_SIZE >> 20} MiB; let it fetch what it needs")
        data = file.read(0, file.size)
        if data.startswith(magic.COMPRESSED["gzip"]):
            return data
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise file.error("is neither text in UTF-8 nor gzip data; name a #cloud-config file or a script") from None
        if not text.startswith(_KINDS):
            raise file.error(
                "begins with none of #cloud-config, #!, #include and the like, so cloud-init would ignore it; "
                "make #cloud-config its first line"
            )
        if text.startswith("#cloud-config"):
            _check_config(file, text)
        return data


def _check_config(file: ImageFile, text: str) -> None:
    first, *rest = text.splitlines()
    if first.rstrip() not in ("#cloud-config", "#cloud-config-archive"):
        raise file.error(
            f"has more than #cloud-config in its first line; begin a new one after that word ({first[:40]!r})"
        )
    for number, line in enumerate(rest, 2):
        if line[: len(line) - len(line.lstrip())].find("\t") >= 0:
            raise file.error(f"is indented with a tab in line {number}, which YAML does not take; use spaces")


def read_keys(path: str) -> list[str]:
    """The public keys of a file, a line each, as authorized_keys has them."""
    with ImageFile(path, "ssh key") as file:
        if file.size > _MAX_KEYS:
            raise file.error("is larger than 1 MiB, so it is no public key; name the file that ends in .pub")
        text = file.read(0, file.size).decode(errors="replace")
        if "PRIVATE KEY-----" in text:
            raise file.error("is a private key, which must not leave this host; name the file that ends in .pub")
        lines = [line.strip() for line in text.splitlines()]
        keys = [line for line in lines if line and not line.startswith("#")]
        for key in keys:
            _check_key(file, key)
        if not keys:
            raise file.error("has no public key in it; name the file that ends in .pub")
        return keys


def _check_key(file: ImageFile, key: str) -> None:
    words = key.split()
    types = [number for number, word in enumerate(words[:-1]) if word.startswith(_KEY_TYPES)]
    if not key.isprintable() or not any(words[number + 1].startswith("AAAA") for number in types):
        raise file.error("has a line that is no public key; name the file that ends in .pub")


def check_hostname(name: str) -> str:
    """The name itself, a host name or a full domain name (RFC 1123). Raises ConfigError."""
    labels = name.lower().split(".")
    for label in labels:
        good = 0 < len(label) <= _LABEL_MAX and all(c in _NAME for c in label)
        if not good or label.startswith("-") or label.endswith("-") or len(name) > _NAME_MAX:
            raise ConfigError(f"--hostname {name!r} is no host name: letters, digits and hyphens, like web-1")
    return name
