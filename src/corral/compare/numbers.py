"""Figures as people read them."""

from __future__ import annotations


def number(value: float, short: bool = False) -> str:
    """Three or four digits that count; `short`: no zeros after the point."""
    if value and (abs(value) < 0.001 or abs(value) >= 1e9):
        return f"{value:.3g}"
    size = abs(value)
    digits = 3 if size < 1 else 2 if size < 10 else 1 if size < 100 else 0
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if short and "." in text else text
