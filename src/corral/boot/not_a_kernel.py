"""Files that are not what was asked for: what they are, and what to do with them instead.

Only reached when a file is refused, so it may look closely; its tables are the magic numbers of the formats
that people have lying about next to their kernels.
"""

from __future__ import annotations

from corral.files import magic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.files.file import ImageFile

KERNEL = "a bzImage (vmlinuz) or a vmlinux for x86-64"
INITRD = "an initramfs: a cpio archive (format newc), compressed or not"

_HEAD = 36 << 10  # as far as an ISO 9660 descriptor
_SMALLEST = 512  # no file of use is shorter
_DISK = "name the kernel that is on it, or boot it as a PC does: corral boot --bios --disk FILE"
_ISO = "copy the kernel out of it (often in /boot, /casper or /isolinux)"
# One that boots from a stick too: it begins with a boot sector of a disk.
_HYBRID = "boot it as a PC does: corral boot --bios --disk FILE,ro"
_ON_IT = "name the kernel that is on it"
_INITRD = "pass it with --initrd, and name a kernel"
_LINE_BREAKS = dict.fromkeys(b"\t\n\r")

# (offset, magic, what it is, what to do). The first that fits is taken.
_MAGICS: tuple[tuple[int, bytes, str, str], ...] = (
    (0x38, b"ARM\x64", "an ARM64 kernel image", "use one for x86-64"),
    (0x38, b"RSC\x05", "a RISC-V kernel image", "use one for x86-64"),
    (0x38, b"\xcd\x23\x82\x81", "an EFI kernel image for another architecture", "use one for x86-64"),
    (0x24, b"\x18\x28\x6f\x01", "a 32-bit ARM kernel image (zImage)", "use one for x86-64"),
    (0, b"\x27\x05\x19\x56", "a U-Boot image (uImage)", "use one for x86-64, without U-Boot's wrapping"),
    (0, b"\xd0\x0d\xfe\xed", "a device tree or a FIT image", "use a kernel for x86-64"),
    (*magic.ISO, "an ISO image", _ISO),
    (0, b"!<arch>\ndebian-binary", "a Debian package", "unpack it: dpkg-deb -x FILE DIR, kernel in DIR/boot"),
    (0, b"!<arch>\n", "an ar archive or a static library", "name the linked kernel"),
    (0, b"\xed\xab\xee\xdb", "an RPM package", "unpack it: rpm2cpio FILE | cpio -id, kernel in lib/modules"),
    (0, b"PK\x03\x04", "a zip archive", "unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (*magic.TAR, "a tar archive", "unpack it first: tar -xf FILE"),
    *((at, number, f"a disk image ({name})", _ON_IT) for at, number, name in magic.IMAGES),
    (0x200, magic.GPT, "a disk image with a GPT", _DISK),
    (*magic.EXT, "an ext2/3/4 file system", _ON_IT),
    *((at, number, f"a disk image ({name})", _ON_IT) for at, number, name in magic.VOLUMES),
    (0, magic.ELF, "a program or a vmlinux", ""),
    (0x202, b"HdrS", "a bzImage", ""),
    (0, b"MZ", "an EFI or Windows program", "if a kernel is in it: objcopy -O binary -j .linux FILE vmlinuz"),
    (510, b"\x55\xaa", "a boot sector or a disk image", _DISK),
    *((0, number, "a cpio archive, an initramfs perhaps", _INITRD) for number in magic.CPIO),
    (0, b"070707", "a cpio archive in an old format", ""),
    (0, b"\xc7\x71", "a cpio archive in an old format", ""),
    (0, b"-----BEGIN ", "a key or a certificate", "check the path"),
    (0, b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself: git lfs pull"),
    (0, b"#!", "a script", "check the path"),
    (0, b"%PDF", "a PDF document", "check the path"),
    (0, b"\x89PNG", "a picture", "check the path"),
    (0, b"\xca\xfe\xba\xbe", "a Mach-O or Java class file", "check the path"),
    (0, b"\xcf\xfa\xed\xfe", "a macOS program", "check the path"),
)
_LZ4_FRAME = b"\x04\x22\x4d\x18"  # of the lz4 command
_UNPACKERS = {
    "gzip": "gunzip",
    "xz": "unxz",
    "bzip2": "bunzip2",
    "zstd": "unzstd",
    "lz4": "unlz4",
    "lzo": "lzop -d",
    "lzma": "unlzma",
}


def instead_of_kernel(file: ImageFile) -> str:
    """What `file` is instead of a kernel, and what to do: what follows its name in a message."""
    what, cure = _identify(file.head(_HEAD))
    return f"is {what}; {cure or f'name {KERNEL}'}"


def instead_of_initrd(file: ImageFile) -> str:
    """What `file` is instead of an initramfs, and what to do: what follows its name in a message."""
    what, _ = _identify(file.head(_HEAD))
    return f"is {what}; name {INITRD}"


def _identify(head: bytes) -> tuple[str, str]:
    """What a file that starts with `head` is, and what to do with it where a kernel was asked for."""
    for offset, number, what, cure in _MAGICS:
        if head.startswith(number, offset):
            return (f"{what} with a boot sector", _HYBRID) if cure is _ISO and _boots(head) else (what, cure)
    packer = "lz4" if head.startswith(_LZ4_FRAME) else magic.compression(head)
    if packer:
        return _identify_compressed(head, packer, _UNPACKERS[packer])
    if not head.strip(b"\0"):
        return "nothing but zeros at its start", "copy or download it again"
    if head.lstrip()[:1] == b"<":
        return "a web page, a failed download perhaps", "download it again"
    if _is_text(head):
        return "a text file", ""
    if len(head) < _SMALLEST:
        return f"only {len(head)} bytes long", "copy or download it again"
    return "in no format that is known", ""


def _boots(head: bytes) -> bool:
    """Whether it begins with a boot sector that has code in it."""
    return head.startswith(b"\x55\xaa", 510) and any(head[:4])


def _identify_compressed(head: bytes, packer: str, unpacker: str) -> tuple[str, str]:
    inner = _first_bytes(head) if packer == "gzip" else b""
    if inner.startswith(magic.CPIO):
        return "a gzip-compressed initramfs", _INITRD
    if inner.startswith(magic.ELF):
        return "a compressed ELF file", f"unpack it first: {unpacker}"
    if inner.startswith(magic.TAR[1], magic.TAR[0]):
        return "a tar archive compressed with gzip", "unpack it first: tar -xf FILE"
    return f"a file compressed with {packer}", f"if a kernel is in it, unpack it first: {unpacker}"


def _first_bytes(packed: bytes) -> bytes:
    """The start of what is in gzip data; nothing if it is damaged."""
    import zlib

    try:
        return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS).decompress(packed, _SMALLEST)
    except zlib.error:
        return b""


def _is_text(head: bytes) -> bool:
    try:
        return head[:_SMALLEST].decode("utf-8").translate(_LINE_BREAKS).isprintable()
    except UnicodeDecodeError:
        return False
