"""Files with one word per line: CoNLL columns and CoNLL-U."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from elman.data.stored_text import StoredText
from elman.errors import BadInput
from elman.io.files import text_blocks

CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
WORD = re.compile(r"\d+$")  # id of a word; ids of multiword tokens (1-2) and empty nodes (1.1) are not scored
ID = re.compile(r"\d+([-.]\d+)?$")
EMPTY, OPTIONAL = "_", ("feats", "deps", "misc")  # empty value in CoNLL-U, and the columns in which it is a valid label
DOCUMENT = "-DOCSTART-"  # first column of a line that begins a document
DOCUMENTS = (DOCUMENT, "# newdoc", "#begin document")  # starts of all lines that begin a document
KEY_VALUE = re.compile(r"#\s?[\w.:-]+ = ")  # a comment in CoNLL-U form: # text = A dog
BLANKS = " \t"  # column separators; other white space is part of a word


class Sentence(NamedTuple):
    """A sentence.

    lines: line number and columns of each line.
    document: number of its document; 0 is before the first document line.
    """

    lines: list[tuple[int, list[str]]]
    document: int


class Layout(NamedTuple):
    """Line format of a file.

    conllu: whether the file is CoNLL-U.
    tabs: whether only tabs separate columns.
    """

    conllu: bool
    tabs: bool

    def split(self, row: str) -> list[str]:
        """Split a line into columns."""
        return row.split("\t") if self.conllu or self.tabs else re.split(f"[{BLANKS}]+", row.strip(BLANKS))


class ColumnFormat(NamedTuple):
    """Indices of the columns of words and of labels; labels is None if no labels are needed."""

    words: int
    labels: int | None


class Conll:
    """A file with one word per line, with its column layout and its rule for comments.

    In CoNLL-U, every line that begins with # is a comment. In other files, such a line may be a word. There it is a
    comment in three cases. First, it has the form "# key = value". Second, it comes before the first word of a
    sentence, and it has no label, or has a label that no other line has and either begins with "# " or has another
    number of columns. Third, it comes between words, has a label that no other line has, begins with "# " and has
    another number of columns.

    Args:
        path: the file.
        encoding: encoding of the text.
        words: column of the words, by name or number; "" means the first, or "form" in CoNLL-U.
        column: column of the labels; "" means the last, or "upos" in CoNLL-U.
        known: labels seen in training, if the file needs no labels; None means the file needs a column of labels.

    Raises:
        BadInput: if the file cannot be read, has no sentences, or lacks the columns.
    """

    def __init__(
        self, path: Path, encoding: str, words: str | None, column: str | None, known: set[str] | None = None
    ) -> None:
        self.path, self.text = path, StoredText(text_blocks(path, encoding))
        self.comments = list[tuple[int, str]]()
        rows = enumerate(self.text.lines(), 1)
        first_words = ((i, row) for i, row in rows if row.strip(BLANKS) and not row.startswith(("#", DOCUMENT)))
        i, row = next(first_words, (0, ""))
        fields = row.split("\t")
        is_conllu = len(fields) == len(CONLLU) and bool(ID.match(fields[0]))
        self.layout = Layout(path.suffix.lower() == ".conllu" or not row or is_conllu, len(fields) > 1)
        self._width = len(self.layout.split(row))
        requested = {"--words": words} | ({"--column": column} if known is None else {})
        self.columns = _columns(f"{path}: line {i}", path, self.layout.split(row), self.layout, requested)
        self._last = not self.layout.conllu and not column  # labels are in the last column of the first line
        self._labels = known or set()
        if not self.layout.conllu and self.columns.labels is not None:
            self._labels = set(self._certain_labels(self.columns.labels))
        if next(self.sentences(), None) is None:
            raise BadInput(f"{path}: expected sentences with one word per line, got none")

    def _certain_labels(self, at: int) -> Iterator[str]:
        """Iterate over the labels of lines that cannot be comments: they do not begin with #, or follow a word."""
        inside = False
        for row in self.text.lines():
            columns = self.layout.split(row)
            if not row.startswith("#") or (inside and (not row.startswith("# ") or len(columns) == self._width)):
                yield from columns[at : at + 1]
            inside = bool(row.strip(BLANKS)) and (inside or not row.startswith(("#", DOCUMENT)))

    def sentences(self) -> Iterator[Sentence]:
        """Iterate over the sentences, separated by empty lines, without comments and lines that are not words."""
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
            elif row.strip(BLANKS):
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
        has_space, has_other_width = row.startswith("# "), len(columns) != self._width
        is_known = self._width > 1 and len(columns) > (at or 0) and columns[-1 if at is None else at] in self._labels
        if inside:
            return at is not None and has_space and has_other_width and len(columns) > at and not is_known
        if len(columns) <= at if at is not None else has_other_width:
            return True
        if row.startswith(DOCUMENTS) or KEY_VALUE.match(row):
            return True
        return (has_space or has_other_width) and self._width > 1 and not is_known

    def check(self, where: str, row: list[str]) -> None:
        """Check that a line has a word, and a label if labels are needed.

        Args:
            where: the line, for error messages.
            row: its columns.

        Raises:
            BadInput: if it does not.
        """
        words, at = self.columns
        if self.layout.conllu and len(row) != len(CONLLU):
            raise BadInput(f"{where}: expected {len(CONLLU)} tab-separated columns of CoNLL-U, got {len(row)}")
        if self.layout.conllu and not WORD.match(row[0]):
            raise BadInput(f"{where}: expected an id like 3, 3-4 or 3.1, got {row[0]!r:.40}")
        last = words if at is None else max(words, at)
        if len(row) <= last:
            raise BadInput(f"{where}: expected at least {last + 1} columns, got {len(row)}")
        if at is not None and self._last and len(row) > self._width:
            raise BadInput(
                f"{where}: expected {self._width} columns, as in the first line, got {len(row)}; pass "
                f"--column {at + 1} if every line has its label in this column"
            )
        if not row[words].strip():
            raise BadInput(f"{where}: expected a word in column {words + 1}, got {row[words]!r:.60}")
        if at is None:
            return
        missing = self.layout.conllu and row[at] == EMPTY and CONLLU[at] not in OPTIONAL
        if not row[at].strip() or missing:
            raise BadInput(f"{where}: expected a label in column {at + 1}, got {row[at]!r:.60}")


def _columns(
    where: str, path: Path, row: Sequence[str], layout: Layout, requested: Mapping[str, str | None]
) -> ColumnFormat:
    """Find the requested columns, by option; the label column only if "--column" is requested.

    Raises:
        BadInput: if a column does not exist.
    """
    names = CONLLU if layout.conllu else ()
    width, needs_labels = len(names or row), "--column" in requested
    if width == 1 and needs_labels:
        raise BadInput(f"{where}: expected a word and its label, separated by spaces or tabs, got {row[0]!r:.40}")
    defaults = {"--words": "form", "--column": "upos"} if names else {"--words": "1", "--column": str(width)}
    places = []
    for option, value in requested.items():
        name = value or defaults[option]
        at = names.index(name) if name in names else int(name) - 1 if re.fullmatch(r"\d{1,9}", name) else -1
        if not 0 <= at < width:
            named = f", or one of {', '.join(names)}" if names else ""
            raise BadInput(f"{path}: {option}: expected a column from 1 to {width}{named}; got {name!r:.60}")
        places.append(at)
    if not needs_labels:
        return ColumnFormat(places[0], None)
    if places[0] == places[1]:
        raise BadInput(
            f"{path}: --column: expected a column other than that of the words, got {places[0] + 1} for both"
        )
    return ColumnFormat(*places)
