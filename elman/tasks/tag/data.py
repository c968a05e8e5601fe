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
NONE, MAY_LACK = "_", ("feats", "deps", "misc")  # how CoNLL-U says that there is nothing, and where that is a label
DOCUMENT = "-DOCSTART-"  # what begins one, besides "# newdoc"
GAPS = " \t"  # between columns; other spaces are parts of words


class Sentence(NamedTuple):
    """Lines by number, each as its columns, and the number of their document; 0: before the first."""

    lines: list[tuple[int, list[str]]]
    document: int


class Layout(NamedTuple):
    """How the lines of a file are read: whether they are CoNLL-U, and whether tabs alone stand between columns."""

    conllu: bool
    tabs: bool

    def split(self, row: str) -> list[str]:
        """The columns of a line."""
        return row.split("\t") if self.conllu or self.tabs else re.split(f"[{GAPS}]+", row.strip(GAPS))


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
    layout = _layout(path, rows)
    first = next(_sentences(rows, layout), None)
    if first is None:
        raise BadInput(f"{path}: expected sentences, a word to a line, got none")
    columns = _columns(path, first, layout, options)
    marks = any("newdoc" in row or DOCUMENT in row for row in rows)
    documents = marks and any(sentence.document for sentence in _sentences(rows, layout))
    for sentence in _sentences(rows, layout):
        group = ("document", str(path), sentence.document) if documents else None
        yield partial(_read, path, sentence, layout, columns, group)


def _layout(path: Path, rows: Iterable[str]) -> Layout:
    """By the name of a file, and its first line that is neither a comment nor a mark."""
    first = next((row for row in rows if row.strip(GAPS) and not row.startswith(("#", DOCUMENT))), None)
    fields = [] if first is None else first.split("\t")
    is_conllu = len(fields) == len(CONLLU) and bool(ID.match(fields[0]))
    return Layout(path.suffix.lower() == ".conllu" or first is None or is_conllu, len(fields) > 1)


def _sentences(rows: Iterable[str], layout: Layout) -> Iterator[Sentence]:
    """What lies between empty lines, without comments and without lines that are no words."""
    lines, document = list[tuple[int, list[str]]](), 0
    for i, row in enumerate(chain(rows, [""]), 1):
        if layout.conllu and row.startswith("#"):
            document += row.startswith("# newdoc")
        elif row.startswith(DOCUMENT):
            document += 1
        elif row.strip(GAPS):
            columns = layout.split(row)
            if not layout.conllu or WORD.match(columns[0]) or not ID.match(columns[0]):
                lines.append((i, columns))
        elif lines:
            yield Sentence(lines, document)
            lines = []


def _columns(path: Path, first: Sentence, layout: Layout, options: TagOptions) -> Columns:
    """Those that were asked for.

    Raises:
        BadInput: where there are none such.
    """
    i, row = first.lines[0]
    names = CONLLU if layout.conllu else ()
    width = len(names or row)
    if width == 1:
        raise BadInput(
            f"{path}: line {i}: expected a word and its label, with spaces or tabs between them, got {row[0]!r:.40}"
        )
    words, labels = ("form", "upos") if names else ("1", str(width))
    asked = {"--words": options.words or words, "--column": options.column or labels}
    found = []
    for option, name in asked.items():
        at = names.index(name) if name in names else int(name) - 1 if name.isdecimal() else -1
        if not 0 <= at < width:
            named = f", or one of {', '.join(names)}" if names else ""
            raise BadInput(f"{path}: {option}: expected a column from 1 to {width}{named}; got {name!r}")
        found.append(at)
    if found[0] == found[1]:
        raise BadInput(f"{path}: --column: expected another column than that of the words, got {found[0] + 1} for both")
    return Columns(*found)


def _read(path: Path, sentence: Sentence, layout: Layout, columns: Columns, group: Hashable | None) -> Example:
    for i, row in sentence.lines:
        _check(f"{path}: line {i}", row, layout, columns)
    words, labels = ([row[at] for _, row in sentence.lines] for at in columns)
    return _example(words, labels, group, f"{path}: line {sentence.lines[0][0]}")


def _check(where: str, row: list[str], layout: Layout, columns: Columns) -> None:
    """Whether a line has a word and a label."""
    if layout.conllu and len(row) != len(CONLLU):
        raise BadInput(f"{where}: expected {len(CONLLU)} columns of CoNLL-U, with tabs between them, got {len(row)}")
    if layout.conllu and not WORD.match(row[0]):
        raise BadInput(f"{where}: expected an id like 3, 3-4 or 3.1, got {row[0]!r:.40}")
    if len(row) <= max(columns):
        raise BadInput(f"{where}: expected {max(columns) + 1} columns or more, got {len(row)}")
    word, label = (row[at] for at in columns)
    if not word.strip():
        raise BadInput(f"{where}: expected a word in column {columns.words + 1}, got {word!r}")
    if not label.strip() or (layout.conllu and label == NONE and CONLLU[columns.labels] not in MAY_LACK):
        raise BadInput(f"{where}: expected a label in column {columns.labels + 1}, got {label!r}")


def _example(words: list[str], labels: list[str], group: Hashable | None, name: str) -> Example:
    return Example(words, labels, group, name)
