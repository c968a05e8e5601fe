"""Sentences with a label for every word: CoNLL columns, and CoNLL-U."""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from elman.data.examples import Example, usable
from elman.data.stored_text import StoredText
from elman.data.tables import TABLES
from elman.data.validation import described, is_table, label_of, quoted, sides
from elman.errors import BadInput
from elman.io.files import text_blocks
from elman.io.terminal import note
from elman.tasks.tag.options import TagOptions

T = TypeVar("T")
CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
WORD = re.compile(r"\d+$")  # its id; 1-2 are words written as one, 1.1 is one that is not written: neither is scored
ID = re.compile(r"\d+([-.]\d+)?$")
NONE, MAY_LACK = "_", ("feats", "deps", "misc")  # how CoNLL-U says that there is nothing, and where that is a label
DOCUMENT = "-DOCSTART-"  # begins a document
DOCUMENTS = (DOCUMENT, "# newdoc", "#begin document")  # so do these comments
SAID = re.compile(r"#\s?[\w.:-]+ = ")  # a comment of the form of CoNLL-U's: # text = A dog
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


class ColumnFormat(NamedTuple):
    """Where words and labels are, from 0; labels are None where a file needs none."""

    words: int
    labels: int | None


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
    file = Conll(path, options, set(labels))
    if not file.layout.conllu and not file.layout.tabs:
        _check_columns(file, options, set(labels))
    made = (partial(_unlabelled, file, sentence) for sentence in file.sentences())
    return _tell_comments(usable(made, options.skip_bad, str(path)), file)


def _tell_comments(made: Iterable[T], file: "Conll") -> Iterator[T]:
    """What was made of a file's sentences; then tell how many comments it has."""
    yield from made
    if file.comments:
        i, row = file.comments[0]
        many = f"{len(file.comments):,} line{'s' * (len(file.comments) > 1)}"
        note(f"{file.path}: {many} read as comments, the first in line {i}: {row!r:.60}")


def _check_columns(file: "Conll", options: TagOptions, labels: set[str]) -> None:
    """Whether lines with spaces between words are columns: then all have as many, and the last is a label."""
    rows = [row for sentence in file.sentences() for _, row in sentence.lines]
    widths, at = {len(row) for row in rows}, int(options.column or 0) - 1
    if widths != {1} and (len(widths) > 1 or len(rows) == 1 or not labels.issuperset(row[at] for row in rows)):
        raise BadInput(
            f"{file.path}: expected a word to a line, or a word and a label of the training; got lines like "
            f"{' '.join(rows[0])!r:.60}; for a sentence in each line give the file on standard input"
        )


def _unlabelled(file: "Conll", sentence: Sentence) -> Example:
    for i, row in sentence.lines:
        file.check(f"{file.path}: line {i}", row)
    return Example([row[file.columns.words] for _, row in sentence.lines])


def _of_file(path: Path, options: TagOptions) -> Iterator[Callable[[], Example]]:
    """What makes each sentence of a file."""
    file = Conll(path, options)
    marks = any(row.startswith(DOCUMENTS) for row in file.text.lines())
    documents = marks and any(sentence.document for sentence in file.sentences())
    for sentence in _tell_comments(file.sentences(), file):
        group = ("document", str(path), sentence.document) if documents else None
        yield partial(_read, file, sentence, group)


class Conll:
    """A file with a word to a line: how its lines are laid out, and which of them are comments.

    In CoNLL-U all lines that begin with # are comments. In other files a line that begins with # may be a word. There
    a comment is a line like "# key = value"; or a line before the first word of a sentence that has no label, or has
    one that no other line has and begins with "# " or has another number of columns; or a line between words that has
    such a label, begins with "# " and has another number of columns.

    Args:
        path: of the file.
        options: columns, by name or number; encoding.
        known: labels of a training, where the file needs none; None: it needs a column of labels.

    Raises:
        BadInput: for a file that cannot be read, has no sentences, or not the columns that were asked for.
    """

    def __init__(self, path: Path, options: TagOptions, known: set[str] | None = None) -> None:
        self.path, self.text = path, StoredText(text_blocks(path, options.encoding))
        self.comments = list[tuple[int, str]]()
        rows = enumerate(self.text.lines(), 1)
        plain = ((i, row) for i, row in rows if row.strip(GAPS) and not row.startswith(("#", DOCUMENT)))
        i, row = next(plain, (0, ""))
        fields = row.split("\t")
        is_conllu = len(fields) == len(CONLLU) and bool(ID.match(fields[0]))
        self.layout = Layout(path.suffix.lower() == ".conllu" or not row or is_conllu, len(fields) > 1)
        self._width = len(self.layout.split(row))
        self.columns = _columns(f"{path}: line {i}", path, self.layout.split(row), self.layout, options, known is None)
        self._last = not self.layout.conllu and not options.column  # the column of labels, by the first line alone
        self._labels = known or set()
        if not self.layout.conllu and self.columns.labels is not None:
            self._labels = set(self._certain(self.columns.labels))
        if next(self.sentences(), None) is None:
            raise BadInput(f"{path}: expected sentences, a word to a line, got none")

    def _certain(self, at: int) -> Iterator[str]:
        """The labels of lines that are no comments: those that do not begin with #, or follow a word."""
        inside = False
        for row in self.text.lines():
            columns = self.layout.split(row)
            if not row.startswith("#") or (inside and (not row.startswith("# ") or len(columns) == self._width)):
                yield from columns[at : at + 1]
            inside = bool(row.strip(GAPS)) and (inside or not row.startswith(("#", DOCUMENT)))

    def sentences(self) -> Iterator[Sentence]:
        """What lies between empty lines, without comments and without lines that are no words."""
        self.comments = []
        lines, document = list[tuple[int, list[str]]](), 0
        for i, row in enumerate(chain(self.text.lines(), [""]), 1):
            if self._is_comment(row, bool(lines)):
                document += row.startswith(DOCUMENTS)
                if not self.layout.conllu:
                    self.comments.append((i, row))
            elif row.startswith(DOCUMENT):
                if lines:
                    yield Sentence(lines, document)
                    lines = []
                document += 1
            elif row.strip(GAPS):
                columns = self.layout.split(row)
                if not self.layout.conllu or WORD.match(columns[0]) or not ID.match(columns[0]):
                    lines.append((i, columns))
            elif lines:
                yield Sentence(lines, document)
                lines = []

    def _is_comment(self, row: str, inside: bool) -> bool:
        if not row.startswith("#"):
            return False
        if self.layout.conllu:
            return True
        columns, at = self.layout.split(row), self.columns.labels
        alone, wide = row.startswith("# "), len(columns) != self._width
        known = self._width > 1 and len(columns) > (at or 0) and columns[-1 if at is None else at] in self._labels
        if inside:
            return at is not None and alone and wide and len(columns) > at and not known
        if len(columns) <= at if at is not None else wide:
            return True
        if row.startswith(DOCUMENTS) or SAID.match(row):
            return True
        return (alone or wide) and self._width > 1 and not known

    def check(self, where: str, row: list[str]) -> None:
        """Whether a line has a word, and a label if there has to be one.

        Raises:
            BadInput: if it does not.
        """
        words, at = self.columns
        if self.layout.conllu and len(row) != len(CONLLU):
            raise BadInput(
                f"{where}: expected {len(CONLLU)} columns of CoNLL-U, with tabs between them, got {len(row)}"
            )
        if self.layout.conllu and not WORD.match(row[0]):
            raise BadInput(f"{where}: expected an id like 3, 3-4 or 3.1, got {row[0]!r:.40}")
        last = words if at is None else max(words, at)
        if len(row) <= last:
            raise BadInput(f"{where}: expected {last + 1} columns or more, got {len(row)}")
        if at is not None and self._last and len(row) > self._width:
            raise BadInput(
                f"{where}: expected {self._width} columns, as in the first line, got {len(row)}; pass "
                f"--column {at + 1} if labels are in that one in all lines"
            )
        if not row[words].strip():
            raise BadInput(f"{where}: expected a word in column {words + 1}, got {row[words]!r}")
        if at is None:
            return
        missing = self.layout.conllu and row[at] == NONE and CONLLU[at] not in MAY_LACK
        if not row[at].strip() or missing:
            raise BadInput(f"{where}: expected a label in column {at + 1}, got {row[at]!r}")


def _columns(
    where: str, path: Path, row: Sequence[str], layout: Layout, options: TagOptions, labelled: bool
) -> ColumnFormat:
    """Those that were asked for.

    Raises:
        BadInput: where there are none such.
    """
    names = CONLLU if layout.conllu else ()
    width = len(names or row)
    if width == 1 and labelled:
        raise BadInput(f"{where}: expected a word and its label, with spaces or tabs between them, got {row[0]!r:.40}")
    words, labels = ("form", "upos") if names else ("1", str(width))
    asked = {"--words": options.words or words} | ({"--column": options.column or labels} if labelled else {})
    found = []
    for option, name in asked.items():
        at = names.index(name) if name in names else int(name) - 1 if name.isdecimal() else -1
        if not 0 <= at < width:
            named = f", or one of {', '.join(names)}" if names else ""
            raise BadInput(f"{path}: {option}: expected a column from 1 to {width}{named}; got {name!r}")
        found.append(at)
    if not labelled:
        return ColumnFormat(found[0], None)
    if found[0] == found[1]:
        raise BadInput(f"{path}: --column: expected another column than that of the words, got {found[0] + 1} for both")
    return ColumnFormat(*found)


def _read(file: Conll, sentence: Sentence, group: Hashable | None) -> Example:
    for i, row in sentence.lines:
        file.check(f"{file.path}: line {i}", row)
    words, at = file.columns
    assert at is not None
    own = [[row[column] for _, row in sentence.lines] for column in (words, at)]
    return _example(own[0], own[1], group, f"{file.path}: line {sentence.lines[0][0]}")


def _example(words: list[str], labels: list[str], group: Hashable | None, name: str) -> Example:
    return Example(words, labels, group, name)
