"""Reading of labelled sentences, from files or Python objects."""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from elman.data.conll import DOCUMENTS, Conll, Sentence
from elman.data.examples import Example, usable
from elman.data.tables import TABLES
from elman.data.validation import described, is_list, is_table, label_of, quoted, sides
from elman.errors import BadInput
from elman.io.terminal import note
from elman.tasks.tag.options import TagOptions

T = TypeVar("T")
EXPECTED = "files, sentences of (word, label) pairs, or a tuple of sentences and their labels"


def read_python(data: Any, skip_bad: bool) -> Iterator[Example]:
    """Read labelled sentences from Python objects.

    Args:
        data: sentences of (word, label) pairs, as in NLTK; or a tuple of N sentences and N lists of labels.
        skip_bad: whether to leave out unusable sentences.

    Raises:
        BadInput: for anything else; for different numbers of sentences and labels; for a sentence without words.
    """
    if is_table(data) or isinstance(data, str | bytes | Mapping) or not isinstance(data, Iterable):
        raise BadInput(f"tag: expected {EXPECTED}; got {described(data)}")
    if isinstance(data, tuple) and len(data) == 2:
        sentences, labels = sides("tag", data, "sentences", "labels")
        rows: Iterable[Any] = zip(sentences, labels, strict=True)
        readers = (partial(_from_words, f"sentence {i}", *row) for i, row in enumerate(rows, 1))
    else:
        readers = (partial(_from_pairs, f"sentence {i}", sentence) for i, sentence in enumerate(data, 1))
    first = next(readers, None)
    if first is None:
        raise BadInput(f"tag: expected {EXPECTED}; got {described(data)}")
    return usable(chain([first], readers), skip_bad, "tag")


def _from_pairs(name: str, sentence: Any) -> Example:
    where = f"tag: {name}"
    if not is_list(sentence):
        raise BadInput(f"{where}: expected a list of (word, label) pairs, got {quoted(sentence)}")
    for pair in sentence:
        if not is_list(pair) or len(pair) != 2:
            raise BadInput(f"{where}: expected a list of (word, label) pairs, got {quoted(pair)} in it")
    return _from_words(name, [word for word, _ in sentence], [label for _, label in sentence])


def _from_words(name: str, words: Any, labels: Any) -> Example:
    where = f"tag: {name}"
    if not is_list(words) or not is_list(labels) or not len(words) or len(words) != len(labels):
        raise BadInput(
            f"{where}: expected a list of words and as many labels, got {quoted(words)} and {quoted(labels)}"
        )
    return Example(to_words(words, where), [label_of(label, where) for label in labels], name=name)


def from_row(words: Any, labels: Any, name: str, options: TagOptions) -> Example:
    """Make an example of a list of words and a list of their labels.

    Raises:
        BadInput: for anything else.
    """
    return _from_words(name, words, labels)._replace(name=name)


def to_words(words: Iterable[Any], where: str) -> list[str]:
    """Convert words to texts.

    Raises:
        BadInput: for a value that is not a word.
    """
    texts = [word if isinstance(word, str) else str(word) for word in words if is_word(word)]
    if len(texts) < len(list(words)):
        wrong = next(word for word in words if not is_word(word))
        raise BadInput(f"{where}: expected words, got {quoted(wrong)}")
    return texts


def is_word(value: Any) -> bool:
    """Return whether a value is a text that is not blank, or a number."""
    if isinstance(value, str):
        return bool(value.strip())
    return isinstance(value, int | float | np.number) and value == value


def read(paths: Sequence[Path], options: TagOptions) -> Iterator[Example]:
    """Read the sentences of files.

    Raises:
        BadInput: for unreadable files; for a sentence without the columns, without `skip_bad`.
    """
    readers = (reader for path in paths for reader in _sentence_readers(path, options))
    return usable(readers, options.skip_bad, ", ".join(map(str, paths)))


def read_inputs(path: Path, options: TagOptions, labels: Sequence[str]) -> Iterator[Example]:
    """Read the sentences of a file, whose labels may be missing.

    Args:
        path: the file.
        options: the options of the task.
        labels: the labels of the training, by which a column of labels is recognized.

    Raises:
        BadInput: for an unreadable file, or one with a sentence in each line.
    """
    if path.suffix.lower() in TABLES:
        raise BadInput(f"{path}: expected sentences with one word per line, or CoNLL-U; got a table")
    file = Conll(path, options.encoding, options.words, options.column, set(labels))
    if not file.layout.conllu and not file.layout.tabs:
        _check_columns(file, options, set(labels))
    readers = (partial(_read_sentence, file, sentence) for sentence in file.sentences())
    return _tell_comments(usable(readers, options.skip_bad, str(path)), file)


def _tell_comments(items: Iterable[T], file: Conll) -> Iterator[T]:
    """Yield the items, then print how many comments the file has."""
    yield from items
    if file.comments:
        i, row = file.comments[0]
        count = f"{len(file.comments):,} line{'s' * (len(file.comments) > 1)}"
        note(f"{file.path}: {count} read as comments, the first in line {i}: {row!r:.60}")


def _check_columns(file: Conll, options: TagOptions, labels: set[str]) -> None:
    """Check that lines are columns: all have the same number, and the last of several is a label."""
    rows = [row for sentence in file.sentences() for _, row in sentence.lines]
    widths, at = {len(row) for row in rows}, int(options.column) - 1 if re.fullmatch(r"\d{1,9}", options.column) else -1
    if widths != {1} and (len(widths) > 1 or len(rows) == 1 or not labels.issuperset(row[at] for row in rows)):
        raise BadInput(
            f"{file.path}: expected one word per line, or a word and a label of the training data; got lines like "
            f"{' '.join(rows[0])!r:.60}; for one sentence per line, pass the file on standard input"
        )


def _sentence_readers(path: Path, options: TagOptions) -> Iterator[Callable[[], Example]]:
    """Yield a function for each sentence of a file that reads it."""
    file = Conll(path, options.encoding, options.words, options.column)
    marks = any(row.startswith(DOCUMENTS) for row in file.text.lines())
    documents = marks and any(sentence.document for sentence in file.sentences())
    for sentence in _tell_comments(file.sentences(), file):
        group = ("document", str(path), sentence.document) if documents else None
        yield partial(_read_sentence, file, sentence, group)


def _read_sentence(file: Conll, sentence: Sentence, group: Hashable | None = None) -> Example:
    for i, row in sentence.lines:
        file.check(f"{file.path}: line {i}", row)
    words, labels = (None if at is None else [row[at] for _, row in sentence.lines] for at in file.columns)
    return Example(words, labels, group, f"{file.path}: line {sentence.lines[0][0]}")
