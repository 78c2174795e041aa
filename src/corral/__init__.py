"""Corral: a type-2 hypervisor. Start reading at machine.py."""

__version__ = "0.1.0"
