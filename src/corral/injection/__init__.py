"""A distribution's own kernel runs natively on a pagetable KVM: what is put into guest memory over it.

The kernel's file stays as it is. Xen's guests run below CPL 0, so a distribution's kernel has the seams for that
already; at them lead jumps into code of Corral's, which lies in a hole of the kernel's text (docs/native.md).

    unfit.py            the checks that it must pass, by name
    linked.py           the kernel as it lies in memory, and its symbols
    requirements.py     what a kernel must be built with
    places.py           which bytes of it are replaced, each found by what is there
    self_patching.py    what the kernel rewrites itself, where none of them may be
    exception_table.py  where the new code may fault
    headers.py          the packages that the new code is compiled against
    compiler.py         gcc and ld
    preparing.py        all of these, once for each kernel: a file in the cache
    pieces.py           that file, and putting it into memory
"""
