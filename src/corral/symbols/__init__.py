"""Which function an address of a kernel is in, and where a symbol is."""
