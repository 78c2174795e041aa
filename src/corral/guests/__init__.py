"""What there is to boot: kernels and initramfs, found, fetched or built in the user's cache folder."""
