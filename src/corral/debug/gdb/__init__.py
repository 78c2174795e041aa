"""gdb's remote protocol."""
