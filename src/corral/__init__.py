"""Corral: a type-2 hypervisor. The names here are the Python API; see docs/python-api.md."""

__version__ = "0.1.0"
