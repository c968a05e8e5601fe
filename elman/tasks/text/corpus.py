"""The corpus of a language model: a text, split and tokenized in blocks, so that it may exceed memory."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
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
from elman.options import PARTS
from elman.tasks.text.score import ScoredText

DEFAULT_NAME = "Python's reference manual"


@dataclass(frozen=True)
class Corpus:
    """The parts of a text; the tokenizer is fitted on the training part only.

    With `is_sample`, `train` is a sample of the training part, for the baseline. `sha256` has the digest of the text,
    and of the parts that are texts of their own, by the names for config.json.
    """

    tokenizer: Tokenizer
    train: NDArray[np.int32]
    validation: ScoredText
    test: ScoredText
    characters: int
    sha256: dict[str, str]
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
    text: str | Iterable[str],
    name: str,
    kind: Kind,
    vocabulary: int,
    tokenizer: Tokenizer | None = None,
    parts: Mapping[str, Iterable[str]] | None = None,
) -> Corpus:
    """Split a text, fit a tokenizer unless one is given, and tokenize.

    Args:
        text: a text, or its pieces.
        name: for messages.
        kind: the kind of tokens.
        vocabulary: the size of the vocabulary.
        tokenizer: a fitted tokenizer.
        parts: the texts of "validation" and "test", in pieces; each that is missing is the last tenth of the text, with
            the test part behind the validation part.

    Raises:
        BadInput: if a part is too short to score.
    """
    stored = {part: StoredText(pieces) for part, pieces in (parts or {}).items()}
    whole = StoredText([text] if isinstance(text, str) else text)
    drawn = [part for part in PARTS if part not in stored]
    begins = [whole.characters * (10 - i) // 10 for i in range(len(drawn), -1, -1)]
    first = whole.part(0, begins[0])
    if tokenizer is None:
        tokenizer = tokenizers.fit(kind, first, vocabulary)
    held_out: dict[str, Iterable[str]] = dict(stored)
    held_out |= {part: whole.part(*ends) for part, ends in zip(drawn, pairwise(begins), strict=True)}
    scored = {part: ScoredText.of(tokenizer, held_out[part]) for part in PARTS}
    for part, encoded in scored.items():
        if len(encoded.ids) < 2 and part in drawn:
            raise BadInput(
                f"{name}: expected a longer text, got {whole.characters} characters: a tenth of them is the {part} part"
            )
        if len(encoded.ids) < 2:
            raise BadInput(f"--{part}: expected a text of at least 2 tokens, got {len(encoded.ids)}")
    sha256 = {"sha256": whole.sha256} | {f"{part}_sha256": part_text.sha256 for part, part_text in stored.items()}
    train = tokenizers.encode(tokenizer, first)
    return Corpus(tokenizer, train, scored["validation"], scored["test"], whole.characters, sha256)
