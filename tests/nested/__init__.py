"""A host with hardware KVM, emulated: QEMU plays an AMD-V machine in software, its Linux sees this machine's files."""
