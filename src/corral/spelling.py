"""What a person may have meant who wrote a word that is not known."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def meant(word: str, known: Iterable[str]) -> str | None:
    """The known word that is nearest, None when none is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), 1)
    return near[0] if near else None


def unknown(what: str, word: str, known: Iterable[str]) -> str:
    """A sentence: there is no such thing, what may be meant, and what there is."""
    known = list(known)
    near = meant(word, known)
    there_are = f"did you mean {near}? There are" if near else "there are"
    return f"there is no {what} {word!r}; {there_are} {', '.join(known)}"
