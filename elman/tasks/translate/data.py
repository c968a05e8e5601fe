"""Reading of sentences with their translations."""

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


def read_pairs(texts: Any, skip_bad: bool) -> Iterator[Example]:
    """Read sentences and translations from Python objects.

    Args:
        texts: pairs of texts; or a tuple of two lists.
        skip_bad: whether to leave out unusable pairs.

    Raises:
        BadInput: for lists of different lengths; for a pair that is not two texts.
    """
    if isinstance(texts, tuple) and len(texts) == 2 and all(isinstance(side, list) for side in texts):
        texts = list(zip(*sides("translate", texts, "sentences", "translations"), strict=True))
    if not isinstance(texts, list | tuple) or not texts:
        raise BadInput(f"translate: expected files, pairs of texts, or two lists of these; got {described(texts)}")
    readers = (partial(_from_python, f"pair {i}", pair) for i, pair in enumerate(texts, 1))
    return usable(readers, skip_bad, "translate")


def _from_python(name: str, pair: Any) -> Example:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise BadInput(f"translate: {name}: expected two texts, got {quoted(pair, 60)}")
    source, target = (text_of(text, f"translate: {name}") for text in pair)
    return Example(source, target, name=name)


def read(paths: Sequence[Path], options: TranslateOptions) -> Iterator[Example]:
    """Read the pairs of a file with tabs, or of two files with parallel lines.

    Raises:
        BadInput: for files of different lengths, a line without a text, a line without a tab or with several tabs.
    """
    if len(paths) > 2:
        raise BadInput(f"{paths[2]}: expected one file of pairs, or two with one language each, got {len(paths)} files")
    if len(paths) == 2:
        readers = (partial(_from_parallel, paths, *row) for row in _parallel_lines(paths, options.encoding))
    else:
        readers = (partial(_to_example, *row) for row in _split_at_tabs(paths[0], options.encoding))
    return usable(readers, options.skip_bad, ", ".join(map(str, paths)))


def from_row(source: Any, target: Any, name: str, options: TranslateOptions) -> Example:
    """Make an example of a sentence and its translation.

    Raises:
        BadInput: for one that is missing.
    """
    return Example(text_of(source, name), text_of(target, name), name=name)


def read_inputs(path: Path, options: TranslateOptions) -> Iterator[Example]:
    """Read the sentences of a file, one in each line; in a file of pairs, the first of each pair.

    Raises:
        BadInput: for a table; for a line without a sentence.
    """
    if path.suffix.lower() in TABLES:
        raise BadInput(f"{path}: expected one sentence per line, got a table")
    readers = (partial(_to_input, *row) for row in _split_at_tabs(path, options.encoding))
    return usable(readers, options.skip_bad, str(path))


def _to_input(name: str, *texts: str) -> Example:
    if len(texts) > 2 or not texts[0]:
        actual = f"{len(texts)} between tabs" if len(texts) > 2 else "an empty line"
        raise BadInput(f"{name}: expected a sentence, or a sentence, a tab and its translation, got {actual}")
    return Example(texts[0], name=name)


def _to_example(name: str, *texts: str) -> Example:
    if len(texts) != 2 or not all(texts):
        actual = f"{len(texts)} between tabs" if len(texts) != 2 else f"an empty {'second' if texts[0] else 'first'}"
        raise BadInput(f"{name}: expected two texts, got {actual}")
    return Example(texts[0], texts[1], name=name)


def _from_parallel(paths: Sequence[Path], line: int, *texts: str) -> Example:
    for path, text in zip(paths, texts, strict=True):
        if not text:
            position = "second" if path is paths[1] else "first"
            raise BadInput(f"{path}: line {line}: expected two texts, got an empty {position}")
    return _to_example(f"{paths[0]}: line {line}", *texts)


def _parallel_lines(paths: Sequence[Path], encoding: str) -> Iterator[tuple[Any, ...]]:
    """Yield the line number of each pair, and its texts."""
    counts = [0, 0]
    rows = zip_longest(*(_read_lines(path, encoding) for path in paths))
    for texts in without_end(rows, lambda texts: not any(texts)):
        counts = [count + (text is not None) for count, text in zip(counts, texts, strict=True)]
        if counts[0] == counts[1]:
            yield counts[0], *texts
    if counts[0] != counts[1]:
        raise BadInput(
            f"{paths[0]}, {paths[1]}: expected the same number of lines in both, got {counts[0]:,} and {counts[1]:,}"
        )


def _split_at_tabs(path: Path, encoding: str) -> Iterator[tuple[str, ...]]:
    lines = enumerate(without_end(_read_lines(path, encoding), lambda line: not line), 1)
    return ((f"{path}: line {i}", *(text.strip() for text in line.split("\t"))) for i, line in lines)


def _read_lines(path: Path, encoding: str) -> Iterator[str]:
    """Read lines; only line feeds and carriage returns end a line, not other line separators of Unicode."""
    return map(str.strip, text_lines(path, encoding, newlines=True))
