"""The corpus of a language model: a text, split and tokenized in blocks, so that it may exceed memory."""

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
from elman.data.token_kinds import Kind
from elman.errors import BadInput
from elman.io.files import text_blocks
from elman.tasks.text.score import ScoredText

DEFAULT_NAME = "Python's reference manual"
TRAIN_SHARE = 0.9  # the training part, from the beginning of the text


@dataclass(frozen=True)
class Corpus:
    """A training part and a validation part; the tokenizer is fitted on the training part only.

    With `is_sample`, `train` is a sample of the training part, for the baseline.
    """

    tokenizer: Tokenizer
    train: NDArray[np.int32]
    validation: ScoredText
    characters: int
    sha256: str
    is_sample: bool = False


def read(source: Path | TextIO | None, encoding: str) -> Iterable[str]:
    """Read a text in pieces, which can be iterated once.

    Args:
        source: a path or an open text file; None: Python's reference manual, which `help("if")` shows too.
        encoding: the encoding of the file.
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
    text: str | Iterable[str], name: str, kind: Kind, vocabulary: int, tokenizer: Tokenizer | None = None
) -> Corpus:
    """Split a text, fit a tokenizer unless one is given, and tokenize.

    Args:
        text: a text, or its pieces.
        name: for messages.
        kind: the kind of tokens.
        vocabulary: the size of the vocabulary.
        tokenizer: a fitted tokenizer.

    Raises:
        BadInput: if the text is too short to validate on.
    """
    stored = StoredText([text] if isinstance(text, str) else text)
    characters = stored.characters
    cut = int(characters * TRAIN_SHARE)
    first, last = stored.part(0, cut), stored.part(cut, characters)
    if tokenizer is None:
        tokenizer = tokenizers.fit(kind, first, vocabulary)
    train, validation = tokenizers.encode(tokenizer, first), ScoredText.of(tokenizer, last)
    if len(validation.ids) < 2:
        raise BadInput(
            f"{name}: expected a longer text, got {characters} characters: the last tenth is the validation part"
        )
    return Corpus(tokenizer, train, validation, characters, stored.sha256)
