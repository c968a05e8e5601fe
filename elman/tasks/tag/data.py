"""Sentences with a label for every word, from wherever they are."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from elman.data.conll import DOCUMENTS, Conll, Sentence
from elman.data.examples import Example, usable
from elman.data.tables import TABLES
from elman.data.validation import described, is_table, label_of, quoted, sides
from elman.errors import BadInput
from elman.io.terminal import note
from elman.tasks.tag.options import TagOptions

T = TypeVar("T")
EXPECTED = "files, sentences of (word, label) pairs, or a tuple of sentences and their labels"


def in_python(data: Any, skip_bad: bool) -> Iterator[Example]:
    """Labelled sentences that Python has.

    Args:
        data: sentences of (word, label) pairs, as NLTK has them; or N sentences and N lists of labels, as a tuple.
        skip_bad: whether sentences that cannot be used are left out.

    Raises:
        BadInput: for anything else; for numbers of sentences and labels that differ; for a sentence without a word.
    """
    if is_table(data) or isinstance(data, str | bytes | Mapping) or not isinstance(data, Iterable):
        raise BadInput(f"tag: expected {EXPECTED}; got {described(data)}")
    if isinstance(data, tuple) and len(data) == 2:
        many, labels = sides("tag", data, "sentences", "labels")
        rows: Iterable[Any] = zip(many, labels, strict=True)
        made = (partial(_beside, f"sentence {i}", *row) for i, row in enumerate(rows, 1))
    else:
        made = (partial(_paired, f"sentence {i}", sentence) for i, sentence in enumerate(data, 1))
    first = next(made, None)
    if first is None:
        raise BadInput(f"tag: expected {EXPECTED}; got {described(data)}")
    return usable(chain([first], made), skip_bad, "tag")


def _paired(name: str, sentence: Any) -> Example:
    where = f"tag: {name}"
    if not is_list(sentence):
        raise BadInput(f"{where}: expected a list of (word, label) pairs, got {quoted(sentence)}")
    for pair in sentence:
        if not is_list(pair) or len(pair) != 2:
            raise BadInput(f"{where}: expected a list of (word, label) pairs, got {quoted(pair)} in it")
    return _beside(name, [word for word, _ in sentence], [label for _, label in sentence])


def _beside(name: str, words: Any, labels: Any) -> Example:
    where = f"tag: {name}"
    if not is_list(words) or not is_list(labels) or not len(words) or len(words) != len(labels):
        raise BadInput(
            f"{where}: expected a list of words and as many labels, got {quoted(words)} and {quoted(labels)}"
        )
    return _example(words_of(words, where), [label_of(label, where) for label in labels], None, name)


def words_of(words: Iterable[Any], where: str) -> list[str]:
    """Words as texts.

    Raises:
        BadInput: for what is no word.
    """
    found = [word if isinstance(word, str) else str(word) for word in words if is_word(word)]
    if len(found) < len(list(words)):
        wrong = next(word for word in words if not is_word(word))
        raise BadInput(f"{where}: expected words, got {quoted(wrong)}")
    return found


def is_word(value: Any) -> bool:
    """Whether a value is a text with something in it, or a number."""
    if isinstance(value, str):
        return bool(value.strip())
    return isinstance(value, int | float | np.number) and value == value


def is_list(value: Any) -> bool:
    """Whether a value is a list of others, of any kind, but no text."""
    is_text = isinstance(value, str | bytes | Mapping | set)
    return not is_text and hasattr(value, "__len__") and hasattr(value, "__iter__")


def read(paths: Sequence[Path], options: TagOptions) -> Iterator[Example]:
    """The sentences of files.

    Raises:
        BadInput: for files that cannot be read; for a sentence that lacks a column, if these are not skipped.
    """
    made = (one for path in paths for one in _of_file(path, options))
    return usable(made, options.skip_bad, ", ".join(map(str, paths)))


def inputs(path: Path, options: TagOptions, labels: Sequence[str]) -> Iterator[Example]:
    """The sentences of a file, whose labels may be missing.

    Args:
        path: of the file.
        options: which column has the words.
        labels: those of the training: columns with spaces between them are known by these.

    Raises:
        BadInput: for a file that cannot be read, or is a text rather than columns.
    """
    if path.suffix.lower() in TABLES:
        raise BadInput(f"{path}: expected sentences with a word to a line, or CoNLL-U; got a table")
    file = Conll(path, options.encoding, options.words, options.column, set(labels))
    if not file.layout.conllu and not file.layout.tabs:
        _check_columns(file, options, set(labels))
    made = (partial(_unlabelled, file, sentence) for sentence in file.sentences())
    return _tell_comments(usable(made, options.skip_bad, str(path)), file)


def _tell_comments(made: Iterable[T], file: Conll) -> Iterator[T]:
    """What was made of a file's sentences; then tell how many comments it has."""
    yield from made
    if file.comments:
        i, row = file.comments[0]
        many = f"{len(file.comments):,} line{'s' * (len(file.comments) > 1)}"
        note(f"{file.path}: {many} read as comments, the first in line {i}: {row!r:.60}")


def _check_columns(file: Conll, options: TagOptions, labels: set[str]) -> None:
    """Whether lines with spaces between words are columns: then all have as many, and the last is a label."""
    rows = [row for sentence in file.sentences() for _, row in sentence.lines]
    widths, at = {len(row) for row in rows}, int(options.column or 0) - 1
    if widths != {1} and (len(widths) > 1 or len(rows) == 1 or not labels.issuperset(row[at] for row in rows)):
        raise BadInput(
            f"{file.path}: expected a word to a line, or a word and a label of the training; got lines like "
            f"{' '.join(rows[0])!r:.60}; for a sentence in each line give the file on standard input"
        )


def _unlabelled(file: Conll, sentence: Sentence) -> Example:
    for i, row in sentence.lines:
        file.check(f"{file.path}: line {i}", row)
    return Example([row[file.columns.words] for _, row in sentence.lines])


def _of_file(path: Path, options: TagOptions) -> Iterator[Callable[[], Example]]:
    """What makes each sentence of a file."""
    file = Conll(path, options.encoding, options.words, options.column)
    marks = any(row.startswith(DOCUMENTS) for row in file.text.lines())
    documents = marks and any(sentence.document for sentence in file.sentences())
    for sentence in _tell_comments(file.sentences(), file):
        group = ("document", str(path), sentence.document) if documents else None
        yield partial(_read, file, sentence, group)


def _read(file: Conll, sentence: Sentence, group: Hashable | None) -> Example:
    for i, row in sentence.lines:
        file.check(f"{file.path}: line {i}", row)
    words, at = file.columns
    assert at is not None
    own = [[row[column] for _, row in sentence.lines] for column in (words, at)]
    return _example(own[0], own[1], group, f"{file.path}: line {sentence.lines[0][0]}")


def _example(words: list[str], labels: list[str], group: Hashable | None, name: str) -> Example:
    return Example(words, labels, group, name)
