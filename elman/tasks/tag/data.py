"""Sentences with a label for every word: CoNLL columns, and CoNLL-U."""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from elman.errors import BadInput
from elman.files import again, text_lines
from elman.tasks._parts import Example, usable
from elman.tasks.tag.options import TagOptions

CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
WORD = re.compile(r"\d+$")  # its id; 1-2 are words written as one, 1.1 is one that is not written: neither is scored
ID = re.compile(r"\d+([-.]\d+)?$")


class Sentence(NamedTuple):
    """Lines by number, each as its columns, and the number of their document; 0: before the first."""

    lines: list[tuple[int, list[str]]]
    document: int


class Columns(NamedTuple):
    """Where words and labels are, from 0."""

    words: int
    labels: int


def pairs(sentences: Sequence[Sequence[str]], labels: Sequence[Sequence[Any]]) -> list[Example]:
    """N sentences and N lists of labels.

    Raises:
        BadInput: for numbers of them that differ; for a sentence without a word.
    """
    if len(sentences) != len(labels):
        raise BadInput(f"tag: expected as many lists of labels as sentences, got {len(labels)} and {len(sentences)}")
    found = []
    for i, (words, own) in enumerate(zip(sentences, labels, strict=True), 1):
        if isinstance(words, str) or not len(words) or len(words) != len(own):
            raise BadInput(
                f"tag: sentence {i}: expected a list of words and as many labels, got {words!r:.40} and {own!r:.40}"
            )
        found.append(_example(list(map(str, words)), list(map(str, own)), None, f"sentence {i}"))
    return found


def read(paths: Sequence[Path], options: TagOptions) -> Iterator[Example]:
    """The sentences of files.

    Raises:
        BadInput: for files that cannot be read; for a sentence that lacks a column, if these are not skipped.
    """
    made = (one for path in paths for one in _of_file(path, options))
    return usable(made, options.skip_bad, ", ".join(map(str, paths)))


def _of_file(path: Path, options: TagOptions) -> Iterator[Callable[[], Example]]:
    """What makes each sentence of a file."""
    rows = again(text_lines, path, options.encoding)
    first = next(_sentences(rows), None)
    if first is None:
        raise BadInput(f"{path}: expected sentences, a word to a line, got none")
    columns = _columns(path, first, options)
    marks = any("newdoc" in row or "-DOCSTART-" in row for row in rows)
    documents = marks and any(sentence.document for sentence in _sentences(rows))
    for sentence in _sentences(rows):
        group = ("document", str(path), sentence.document) if documents else None
        yield partial(_read, path, sentence, columns, group)


def _sentences(rows: Iterable[str]) -> Iterator[Sentence]:
    """What lies between empty lines, without comments and without lines that are no words."""
    lines, document = list[tuple[int, list[str]]](), 0
    conllu = _is_conllu(rows)
    for i, row in enumerate(chain(rows, [""]), 1):
        columns = row.split("\t") if conllu else row.split()
        if conllu and row.startswith("#"):
            document += row.startswith("# newdoc")
        elif columns[:1] == ["-DOCSTART-"]:
            document += 1
        elif row.strip():
            if not conllu or WORD.match(columns[0]):
                lines.append((i, columns))
        elif lines:
            yield Sentence(lines, document)
            lines = []


def _is_conllu(rows: Iterable[str]) -> bool:
    first = next((row.split("\t") for row in rows if row.strip() and not row.startswith("#")), [""])
    return len(first) == len(CONLLU) and bool(ID.match(first[0]))


def _columns(path: Path, first: Sentence, options: TagOptions) -> Columns:
    """Those that were asked for.

    Raises:
        BadInput: where there are none such.
    """
    _, row = first.lines[0]
    names = CONLLU if len(row) == len(CONLLU) and WORD.match(row[0]) else ()
    words, labels = ("form", "upos") if names else ("1", str(len(row)))
    asked = {"--words": options.words or words, "--column": options.column or labels}
    found = []
    for option, name in asked.items():
        at = names.index(name) if name in names else int(name) - 1 if name.isdecimal() else -1
        if not 0 <= at < len(row):
            named = f", or one of {', '.join(names)}" if names else ""
            raise BadInput(f"{path}: {option}: expected a column from 1 to {len(row)}{named}; got {name!r}")
        found.append(at)
    return Columns(*found)


def _read(path: Path, sentence: Sentence, columns: Columns, group: Hashable | None) -> Example:
    for i, row in sentence.lines:
        if len(row) <= max(columns):
            raise BadInput(f"{path}: line {i}: expected {max(columns) + 1} columns or more, got {len(row)}")
    words, labels = ([row[at] for _, row in sentence.lines] for at in columns)
    return _example(words, labels, group, f"{path}: line {sentence.lines[0][0]}")


def _example(words: list[str], labels: list[str], group: Hashable | None, name: str) -> Example:
    return Example(words, labels, tuple(words) if group is None else group, name)  # the same sentence is no test
