"""A clerk that says what it was told and asked."""

from __future__ import annotations

from corral.jail import message
from corral.jail.clerk import serve


def main() -> None:
    serve(lambda told, asked, questions, answers: message.send(answers, *told, *asked))
