# To a type checker, and to an editor, these are the standard library's.
from enum import Enum as Enum

__all__ = ["Enum"]
