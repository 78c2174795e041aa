# A decorated class is to a type checker, and to an editor, what dataclasses make of it.
from dataclasses import dataclass as record
from dataclasses import replace as replace

__all__ = ["record", "replace"]
