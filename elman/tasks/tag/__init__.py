"""A label for every word of a sentence."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.tasks.api import Trained


def fit(data: Any, out: str | Path | None = None, **options: Any) -> "Trained":
    """Train a network that gives every word of a sentence a label.

    Args:
        data: sentences as lists of (word, label) pairs, as NLTK's `tagged_sents()` has them; or N sentences, lists of
            words, and N lists of labels, as a tuple; or files, as for `elman train tag`.
        out: the folder of the run; None: the next free one below runs/.
        options: of `elman train tag`, by their names there: `hidden=64`, `minutes=1`.

    Returns:
        `model`, an nn.Module; `scores`; `predict(sentences)`, a row for each word, of texts or lists of words;
        `evaluate(data)`; `run`.

    Raises:
        BadInput: for data that cannot be used.
        TypeError, ValueError: for options that there are not.

    >>> import tempfile
    >>> nouns, verbs = ["cat", "dog", "bird", "fish", "cow"], ["sees", "bites", "likes", "hears"]
    >>> sentences = [["the", noun, verb] for noun in nouns for verb in verbs]
    >>> tagger = fit((sentences, [["DET", "NOUN", "VERB"]] * 20), tempfile.mkdtemp(), epochs=20, batch=4, hidden=16)
    >>> [row["label"] for row in tagger.predict(["the fish likes the dog"])]
    ['DET', 'NOUN', 'VERB', 'DET', 'NOUN']
    """
    from elman.tasks.api import fit

    return fit("tag", data, out, options)
