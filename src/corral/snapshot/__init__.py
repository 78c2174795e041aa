"""A guest in a file: what it is, saving one, and going on from one (docs/snapshot.md)."""
