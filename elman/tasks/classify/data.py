"""Reading of texts with labels."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from elman.data.examples import Example, usable
from elman.data.tables import Source, is_table, rows
from elman.data.validation import label_of, text_of
from elman.errors import BadInput
from elman.io.files import text_lines, without_end
from elman.tasks.classify.options import ClassifyOptions

NUMBER_PATTERN = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$")
TEXT_SUFFIXES = ("", ".txt", ".text")  # for these the label is the stem of a file, else the suffix


def read_pairs(texts: Sequence[Any], labels: Sequence[Any], *, skip_bad: bool) -> Iterator[Example]:
    """Read N texts and N labels.

    Raises:
        BadInput: for an unusable text or label, without `skip_bad`.
    """
    rows = enumerate(zip(texts, labels, strict=True), 1)
    return usable((partial(from_row, *pair, f"text {i}") for i, pair in rows), skip_bad, "classify")


def read(paths: Sequence[Source], options: ClassifyOptions) -> Iterator[Example]:
    """Read the texts of tables, or of files with one label each.

    Raises:
        BadInput: for unreadable files; for a missing text or label, without `skip_bad`.
    """
    readers = (partial(from_row, *row) for path in paths for row in _read_rows(path, options))
    return usable(readers, options.skip_bad, ", ".join(map(str, paths)))


def from_row(text: Any, label: Any, name: str) -> Example:
    """Make an example of a text and its label.

    Raises:
        BadInput: for a missing text or label.
    """
    text = text_of(text, name)
    return Example(text, label_of(label, name), name=name)


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
