"""The text that a model is trained on, split and tokenized block by block, as it may be a long one."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from elman.data import tokenizers
from elman.data.examples import check_texts
from elman.data.stored_text import StoredText
from elman.errors import BadInput
from elman.io.files import text_blocks
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


def read(source: Path | TextIO | None, encoding: str) -> Iterable[str]:
    """A text in pieces, to be read once: a file's, by its path or opened; or the English that every Python carries: its
    reference manual, as `help("if")` shows it.
    """
    if isinstance(source, Path):
        return text_blocks(source, encoding)
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
    stored = StoredText([text] if isinstance(text, str) else text)
    characters = stored.characters
    cut = int(characters * TRAIN)
    first, last = stored.part(0, cut), stored.part(cut, characters)
    if tokenizer is None:
        tokenizer = tokenizers.fit(kind, first, vocabulary)
    train, validation = tokenizers.encode(tokenizer, first), ScoredText.of(tokenizer, last)
    if len(validation.ids) < 2:
        raise BadInput(f"{name}: expected a longer text, got {characters} characters: the last tenth is to validate on")
    return Corpus(tokenizer, train, validation, characters, stored.sha256)
