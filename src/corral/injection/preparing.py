"""The injection for one kernel: looked for in the cache, or made."""

from __future__ import annotations

import os

from corral import boot
from corral.boot import kernel_config, pieces
from corral.errors import HostError
from corral.guests import apt_suite, cache, sources
from corral.injection import compiler, exception_table, identity, places, requirements, self_patching
from corral.injection import headers as header_packages
from corral.injection.linked import LinkedKernel
from corral.injection.unfit import Check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.boot.pieces import Piece
    from corral.guests.debian import Options

    Progress = Callable[[str], None]

FORMAT = 2  # counts up when another injection is made from the same sources
_FILE = "injection"


def get(
    path: str,
    progress: Progress = lambda text: None,
    options: Callable[[], Options] | None = None,
    named: str | None = None,
) -> str:
    """The file of the injection for the kernel at `path`, a vmlinux; made if the cache lacks it, some ten seconds,
    once. `options` gives apt's for its headers, where its release does not tell; `named` is the file that it was
    unpacked from, beside which its configuration may be.

    Raises UnfitError for a kernel that cannot run natively, HostError where its headers or a compiler are missing,
    BootError for what is no kernel.
    """
    with boot.open_kernel(named or path) as kernel:
        release = kernel.describe().release or ""
        requirements.check_release(release)
        target = cache.folder("injections", f"{release}_{_key(path)}")
        if not os.path.isdir(target):  # looked at before anything is made or said
            check(path, release, kernel_config.find(kernel, release))
    with cache.making(target, progress) as unfinished:
        if unfinished:
            import shutil

            work = os.path.join(unfinished, "work")
            os.mkdir(work)
            made = _make(path, release, work, progress, options() if options else apt_suite.of_kernel(release))
            shutil.rmtree(work)
            with open(os.path.join(unfinished, _FILE), "wb") as file:
                file.write(pieces.pack(made))
    return os.path.join(target, _FILE)


def check(path: str, release: str, config: kernel_config.KernelConfig | None) -> None:
    """Raises UnfitError for a kernel that cannot run natively: all checks but the last, which takes its headers."""
    requirements.check_release(release)
    requirements.check_configuration(config)
    with LinkedKernel(path) as kernel:
        self_patching.require_untouched(kernel, places.touched(kernel, places.find(kernel)))
        exception_table.room(kernel)


def lacks(release: str) -> tuple[Check, str] | None:
    """What this host lacks to make an injection for a kernel, without fetching anything: which check, and what."""
    check = Check.HEADERS
    try:
        header_packages.require(release)
        check = Check.TOOLS
        compiler.require()
    except HostError as error:
        return check, str(error)
    return None


def _make(path: str, release: str, work: str, progress: Progress, options: Options) -> list[Piece]:
    with LinkedKernel(path) as kernel:
        found = places.find(kernel)
        progress(f"{release}: fetching its headers")
        headers = header_packages.get(release, work, options)
        progress(f"{release}: building what is injected")
        code = compiler.build(kernel, found, headers, os.path.join(work, "build"))
        made = places.replaced(kernel, found, code.content, code.symbols)
        added = exception_table.rows(code.symbols["corral_exceptions"], code.exceptions)
        return [*made, exception_table.merged(kernel, added)]


def _key(path: str) -> str:
    """What an injection is made from."""
    return sources.digest(identity.of(path), *compiler.contents(), str(FORMAT).encode())
