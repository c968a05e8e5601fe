"""The text that a model is trained on, split and tokenized: gone through block by block, as it may be a long one."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from elman.data import tokenizers
from elman.data.examples import check_texts
from elman.errors import BadInput
from elman.io.files import again, text_blocks
from elman.tasks.text.score import ScoredText

DEFAULT = "Python's reference manual"
TRAIN = 0.9  # the share of the text that is trained on, from its beginning


@dataclass(frozen=True)
class Corpus:
    """A text in its two parts; the tokenizer has seen only the first."""

    tokenizer: Tokenizer
    train: NDArray[np.int32]
    validation: ScoredText
    characters: int
    sha256: str


@dataclass(frozen=True)
class CorpusPart:
    """The characters of a text from one to before another, in pieces."""

    text: Iterable[str]
    begin: int
    end: int
    name: str  # of the text

    def __iter__(self) -> Iterator[str]:
        at = 0
        for piece in self.text:
            found = piece[max(self.begin - at, 0) : max(self.end - at, 0)]
            at += len(piece)
            if found:
                yield found
            if at >= self.end:
                return
        if at < self.end:
            raise BadInput(
                f"{self.name}: expected a text that stays as it is while it is read, got one that had {self.end:,} "
                f"characters at first, and then {at:,}"
            )


def read(source: Path | TextIO | None, encoding: str) -> Iterable[str]:
    """A text in pieces: a file's, by its path or opened; or the English that every Python carries: its reference
    manual, as `help("if")` shows it.
    """
    if isinstance(source, Path):
        return again(text_blocks, source, encoding)
    if source is not None:
        text = source.read()
        if not isinstance(text, str):
            raise BadInput(f"a text in Python: expected a file opened as a text, got one of {type(text).__name__}")
        check_texts("a text in Python", text)
        return [text]
    from pydoc_data.topics import topics

    return ["\n\n".join(topics[name] for name in sorted(topics))]


def prepare(
    text: str | Iterable[str], name: str, kind: str, vocabulary: int, tokenizer: Tokenizer | None = None
) -> Corpus:
    """Split a text, whole or in pieces, fit a tokenizer (or use the one given), tokenize.

    Raises:
        BadInput: if there is too little of it to have anything to validate on.
    """
    pieces = [text] if isinstance(text, str) else text
    characters, sha256 = known_by(pieces)
    cut = int(characters * TRAIN)
    first, last = CorpusPart(pieces, 0, cut, name), CorpusPart(pieces, cut, characters, name)
    if tokenizer is None:
        tokenizer = tokenizers.fit(kind, first, vocabulary)
    train, validation = tokenizers.encode(tokenizer, first), ScoredText.of(tokenizer, last)
    if len(validation.ids) < 2:
        raise BadInput(f"{name}: expected a longer text, got {characters} characters: the last tenth is to validate on")
    return Corpus(tokenizer, train, validation, characters, sha256)


def known_by(pieces: Iterable[str]) -> tuple[int, str]:
    """How many characters a text has, and the SHA-256 to know it again."""
    characters, found = 0, hashlib.sha256()
    for piece in pieces:
        characters += len(piece)
        found.update(piece.encode("utf-8", "surrogatepass"))
    return characters, found.hexdigest()
