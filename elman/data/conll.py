"""Files with a word to a line: CoNLL columns, and CoNLL-U."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from elman.data.stored_text import StoredText
from elman.errors import BadInput
from elman.io.files import text_blocks

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


class Conll:
    """A file with a word to a line: how its lines are laid out, and which of them are comments.

    In CoNLL-U all lines that begin with # are comments. In other files a line that begins with # may be a word. There
    a comment is a line like "# key = value"; or a line before the first word of a sentence that has no label, or has
    one that no other line has and begins with "# " or has another number of columns; or a line between words that has
    such a label, begins with "# " and has another number of columns.

    Args:
        path: of the file.
        encoding: of the text.
        words: the column of words, by name or number; "": the first, or CoNLL-U's "form".
        column: that of labels; "": the last, or CoNLL-U's "upos".
        known: labels of a training, where the file needs none; None: it needs a column of labels.

    Raises:
        BadInput: for a file that cannot be read, has no sentences, or not the columns that were asked for.
    """

    def __init__(
        self, path: Path, encoding: str, words: str | None, column: str | None, known: set[str] | None = None
    ) -> None:
        self.path, self.text = path, StoredText(text_blocks(path, encoding))
        self.comments = list[tuple[int, str]]()
        rows = enumerate(self.text.lines(), 1)
        plain = ((i, row) for i, row in rows if row.strip(GAPS) and not row.startswith(("#", DOCUMENT)))
        i, row = next(plain, (0, ""))
        fields = row.split("\t")
        is_conllu = len(fields) == len(CONLLU) and bool(ID.match(fields[0]))
        self.layout = Layout(path.suffix.lower() == ".conllu" or not row or is_conllu, len(fields) > 1)
        self._width = len(self.layout.split(row))
        asked = {"--words": words} | ({"--column": column} if known is None else {})
        self.columns = _columns(f"{path}: line {i}", path, self.layout.split(row), self.layout, asked)
        self._last = not self.layout.conllu and not column  # the column of labels, by the first line alone
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
    where: str, path: Path, row: Sequence[str], layout: Layout, asked: Mapping[str, str | None]
) -> ColumnFormat:
    """Those that were asked for, by option; of labels only if they are needed.

    Raises:
        BadInput: where there are none such.
    """
    names = CONLLU if layout.conllu else ()
    width, labelled = len(names or row), "--column" in asked
    if width == 1 and labelled:
        raise BadInput(f"{where}: expected a word and its label, with spaces or tabs between them, got {row[0]!r:.40}")
    defaults = {"--words": "form", "--column": "upos"} if names else {"--words": "1", "--column": str(width)}
    found = []
    for option, given in asked.items():
        name = given or defaults[option]
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
