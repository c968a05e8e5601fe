"""Pretrained word vectors (`--vectors`) as the first weights of the word embeddings of a task."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from elman.data.examples import Example
from elman.data.word_vectors import read_vectors, vector_size
from elman.errors import BadInput


def with_embed(options: Any) -> Any:
    """Return options whose embeddings have the size of the vectors, if it is not set.

    The file of the vectors gets its absolute path, to find it from any working directory.

    Raises:
        BadInput: for a file that is no file of vectors.
    """
    if not options.vectors:
        return options
    path = Path(options.vectors).resolve()
    return options.model_copy(update={"vectors": str(path), "embed": options.embed or vector_size(path)})


def initialize(
    codec: Any, train: Sequence[Example], options: Any, tell: Callable[[str], Any]
) -> Callable[[Any], None] | None:
    """Read the vectors of the words of a codec, and tell how many have one.

    Args:
        codec: the fitted codec, with `words`.
        train: the training part.
        options: the options of the task.
        tell: called with a line on the vectors.

    Returns:
        A function that sets `words`, the word embeddings of a new model, whose row 0 stands for all unknown words;
        None without `--vectors`.

    Raises:
        BadInput: for a file that cannot be used.
    """
    if not options.vectors:
        return None
    path = Path(options.vectors)
    vectors, has_vector = read_vectors(path, codec.words)
    if vectors.shape[1] != options.embed:
        raise BadInput(
            f"--embed {options.embed}: expected {vectors.shape[1]}, the size of the vectors in {path}; leave it out"
        )
    count, total = int(has_vector.sum()), len(codec.words)
    tell(
        f"{path}: vectors of {vectors.shape[1]} numbers for {count:,} of the {total:,} words of the training part "
        f"({count / max(total, 1):.1%})"
    )

    def set_words(model: Any) -> None:
        words: nn.Embedding = model.words
        known, weights = torch.from_numpy(has_vector), torch.from_numpy(vectors)
        with torch.no_grad():
            if count:  # words without a vector begin as random vectors with the same spread
                words.weight *= weights[known].std(correction=0) / words.weight.std()
            words.weight[1:][known] = weights[known]

    return set_words
