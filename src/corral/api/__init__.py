"""A guest by HTTP over a Unix socket, as Firecracker's clients speak it (docs/api.md)."""
