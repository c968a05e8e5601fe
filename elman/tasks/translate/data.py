"""Sentences with their translations, from wherever they are."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from elman.data.examples import Example, usable
from elman.data.tables import TABLES
from elman.data.validation import described, quoted, sides, text_of
from elman.errors import BadInput
from elman.io.files import text_lines, without_end
from elman.tasks.translate.options import TranslateOptions


def pairs(texts: Any, skip_bad: bool) -> Iterator[Example]:
    """Sentences and their translations.

    Args:
        texts: pairs of them; or a tuple of two lists.
        skip_bad: whether what is no two texts is left out.

    Raises:
        BadInput: for lists of different lengths, or what is no two texts.
    """
    if isinstance(texts, tuple) and len(texts) == 2 and all(isinstance(side, list) for side in texts):
        texts = list(zip(*sides("translate", texts, "sentences", "translations"), strict=True))
    if not isinstance(texts, list | tuple) or not texts:
        raise BadInput(f"translate: expected files, pairs of texts, or two lists of these; got {described(texts)}")
    made = (partial(_in_python, f"pair {i}", pair) for i, pair in enumerate(texts, 1))
    return usable(made, skip_bad, "translate")


def _in_python(name: str, pair: Any) -> Example:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise BadInput(f"translate: {name}: expected two texts, got {quoted(pair, 60)}")
    source, target = (text_of(text, f"translate: {name}") for text in pair)
    return Example(source, target, name=name)


def read(paths: Sequence[Path], options: TranslateOptions) -> Iterator[Example]:
    """The pairs of a file with tabs, or of two whose lines belong together.

    Raises:
        BadInput: for files of different lengths, a line without a text, a line without a tab or with several.
    """
    if len(paths) > 2:
        raise BadInput(f"{paths[2]}: expected one file of pairs, or two with a language each, got {len(paths)} files")
    if len(paths) == 2:
        made = (partial(_beside, paths, *row) for row in _parallel(paths, options.encoding))
    else:
        made = (partial(_pair, *row) for row in _tabbed(paths[0], options.encoding))
    return usable(made, options.skip_bad, ", ".join(map(str, paths)))


def inputs(path: Path, options: TranslateOptions) -> Iterator[Example]:
    """The sentences of a file, one in each line; of a file of pairs the first of each.

    Raises:
        BadInput: for a table, which the training does not read either; for a line without a sentence.
    """
    if path.suffix.lower() in TABLES:
        raise BadInput(f"{path}: expected lines with a sentence each, got a table")
    made = (partial(_source, *row) for row in _tabbed(path, options.encoding))
    return usable(made, options.skip_bad, str(path))


def _source(name: str, *texts: str) -> Example:
    if len(texts) > 2 or not texts[0]:
        came = f"{len(texts)} between tabs" if len(texts) > 2 else "an empty line"
        raise BadInput(f"{name}: expected a sentence, or one and its translation with a tab between them, got {came}")
    return Example(texts[0], name=name)


def _pair(name: str, *texts: str) -> Example:
    if len(texts) != 2 or not all(texts):
        came = f"{len(texts)} between tabs" if len(texts) != 2 else f"an empty {'second' if texts[0] else 'first'}"
        raise BadInput(f"{name}: expected two texts, got {came}")
    return Example(texts[0], texts[1], name=name)


def _beside(paths: Sequence[Path], line: int, *texts: str) -> Example:
    for path, text in zip(paths, texts, strict=True):
        if not text:
            which = "second" if path is paths[1] else "first"
            raise BadInput(f"{path}: line {line}: expected two texts, got an empty {which}")
    return _pair(f"{paths[0]}: line {line}", *texts)


def _parallel(paths: Sequence[Path], encoding: str) -> Iterator[tuple[Any, ...]]:
    """The line of each pair, and its texts."""
    counts = [0, 0]
    rows = zip_longest(*(_lines(path, encoding) for path in paths))
    for texts in without_end(rows, lambda texts: not any(texts)):
        counts = [count + (text is not None) for count, text in zip(counts, texts, strict=True)]
        if counts[0] == counts[1]:
            yield counts[0], *texts
    if counts[0] != counts[1]:
        raise BadInput(f"{paths[0]}, {paths[1]}: expected as many lines in both, got {counts[0]:,} and {counts[1]:,}")


def _tabbed(path: Path, encoding: str) -> Iterator[tuple[str, ...]]:
    lines = enumerate(without_end(_lines(path, encoding), lambda line: not line), 1)
    return ((f"{path}: line {i}", *(text.strip() for text in line.split("\t"))) for i, line in lines)


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """Those of a file; what else Unicode takes for a line's end stays within it."""
    return map(str.strip, text_lines(path, encoding, newlines=True))
