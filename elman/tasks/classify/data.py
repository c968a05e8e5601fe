"""Reading of texts with labels."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from elman.data.examples import Example, usable
from elman.data.tables import Source, is_table, rows
from elman.data.validation import is_list, label_of, text_of
from elman.errors import BadInput
from elman.io.files import text_lines, without_end
from elman.tasks.classify.options import ClassifyOptions

NUMBER_PATTERN = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$")
TEXT_SUFFIXES = ("", ".txt", ".text")  # for these the label is the stem of a file, else the suffix


def read_pairs(texts: Sequence[Any], labels: Sequence[Any], options: ClassifyOptions) -> Iterator[Example]:
    """Read N texts and N labels.

    Raises:
        BadInput: for an unusable text or label, without `skip_bad`.
    """
    rows = enumerate(zip(texts, labels, strict=True), 1)
    readers = (partial(from_row, *pair, f"text {i}", options) for i, pair in rows)
    return usable(readers, options.skip_bad, "classify")


def read(paths: Sequence[Source], options: ClassifyOptions) -> Iterator[Example]:
    """Read the texts of tables, or of files with one label each.

    Raises:
        BadInput: for unreadable files; for a missing text or label, without `skip_bad`.
    """
    readers = (partial(from_row, *row, options) for path in paths for row in _read_rows(path, options))
    return usable(readers, options.skip_bad, ", ".join(map(str, paths)))


def from_row(text: Any, label: Any, name: str, options: ClassifyOptions) -> Example:
    """Make an example of a text and its label, or with `multi_label` its labels, a tuple.

    Raises:
        BadInput: for a missing text or label.
    """
    text = text_of(text, name)
    target = labels_of(label, name, options.separator) if options.multi_label else label_of(label, name)
    return Example(text, target, name=name)


def labels_of(value: Any, where: str, separator: str) -> tuple[str, ...]:
    """Return the labels of a text in order: of a list, or of a text with separators; none for a missing value.

    Raises:
        BadInput: for a label in a list that is none.

    >>> labels_of("b, a,,b", "row 1", ","), labels_of(["a"], "row 1", ","), labels_of(None, "row 1", ",")
    (('a', 'b'), ('a',), ())
    """
    if value is None or (isinstance(value, float) and value != value):
        return ()
    if isinstance(value, str):
        values: Iterable[Any] = filter(None, map(str.strip, value.split(separator)))
    else:
        values = value if is_list(value) or isinstance(value, set | frozenset) else [value]
    return tuple(sorted({label_of(label, where) for label in values}))


def read_inputs(path: Path, options: ClassifyOptions) -> Iterator[Example]:
    """Read the texts of a table without labels, or of a file of lines.

    Raises:
        BadInput: for an unreadable file; for a missing text, without `skip_bad`.
    """
    rows = _read_rows(path, options.model_copy(update={"label": ""}))
    return usable((partial(_to_input, text, name) for text, _, name in rows), options.skip_bad, str(path))


def _to_input(text: Any, name: str) -> Example:
    return Example(text_of(text, name), name=name)


def _read_rows(path: Source, options: ClassifyOptions) -> Iterator[tuple[Any, Any, str]]:
    """Yield each text, its label and its place."""
    if isinstance(path, Path) and not is_table(path):
        return _read_lines(path, options.encoding)
    return _read_table(path, options)


def _read_table(path: Source, options: ClassifyOptions) -> Iterator[tuple[Any, Any, str]]:
    columns = {"--text": options.text, "--label": options.label}
    first_text, are_numbers = None, True
    for i, (text, label) in enumerate(rows(path, columns, options.encoding, options.quote), 1):
        first_text, are_numbers = (
            first_text or text,
            are_numbers and (text is None or NUMBER_PATTERN.match(str(text)) is not None),
        )
        yield text, label, f"{path}: row {i}"
    if are_numbers and first_text is not None:
        got = f"only numbers, the first {first_text!s:.60}"
        raise BadInput(f"{path}: --text: expected texts in {options.text!r}, got {got}")


def _read_lines(path: Path, encoding: str) -> Iterator[tuple[Any, Any, str]]:
    label = path.stem if path.suffix.lower() in TEXT_SUFFIXES else path.suffix[1:]
    for i, line in without_end(enumerate(text_lines(path, encoding), 1), lambda row: not row[1].strip()):
        yield line, label, f"{path}: line {i}"
