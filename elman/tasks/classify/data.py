"""Texts with labels, from wherever they are."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from elman.data.examples import Example, usable
from elman.data.tables import Source, is_table, rows
from elman.data.validation import label_of, text_of
from elman.errors import BadInput
from elman.io.files import text_lines, without_end
from elman.tasks.classify.options import ClassifyOptions

NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$")
TEXTS = ("", ".txt", ".text")  # which say nothing of what is in a file


def pairs(texts: Sequence[Any], labels: Sequence[Any], *, skip_bad: bool) -> Iterator[Example]:
    """Texts, and as many labels.

    Raises:
        BadInput: for what is none, if these are not skipped.
    """
    found = enumerate(zip(texts, labels, strict=True), 1)
    return usable((partial(_example, *pair, f"text {i}") for i, pair in found), skip_bad, "classify")


def read(paths: Sequence[Source], options: ClassifyOptions) -> Iterator[Example]:
    """The texts of tables, or of files of one label each.

    Raises:
        BadInput: for files that cannot be read; for a text or a label that is missing, if these are not skipped.
    """
    made = (partial(_example, *row) for path in paths for row in _rows(path, options))
    return usable(made, options.skip_bad, ", ".join(map(str, paths)))


def inputs(path: Path, options: ClassifyOptions) -> Iterator[Example]:
    """The texts of a table, which needs no labels, or of a file of lines.

    Raises:
        BadInput: for a file that cannot be read; for a text that is missing, if these are not skipped.
    """
    found = _rows(path, replace(options, label=""))
    return usable((partial(_input, text, name) for text, _, name in found), options.skip_bad, str(path))


def _input(text: Any, name: str) -> Example:
    return Example(text_of(text, name), name=name)


def _rows(path: Source, options: ClassifyOptions) -> Iterator[tuple[Any, Any, str]]:
    """A text, its label, and where they are."""
    if isinstance(path, Path) and not is_table(path):
        return _lines(path, options.encoding)
    return _table(path, options)


def _example(text: Any, label: Any, name: str) -> Example:
    text = text_of(text, name)
    return Example(text, label_of(label, name), name=name)


def _table(path: Source, options: ClassifyOptions) -> Iterator[tuple[Any, Any, str]]:
    columns = {"--text": options.text, "--label": options.label}
    first, numbers = None, True
    for i, (text, label) in enumerate(rows(path, columns, options.encoding, options.quote), 1):
        first, numbers = first or text, numbers and (text is None or NUMBER.match(str(text)) is not None)
        yield text, label, f"{path}: row {i}"
    if numbers and first is not None:
        raise BadInput(f"{path}: --text: expected texts in {options.text!r}, got numbers alone, the first {first}")


def _lines(path: Path, encoding: str) -> Iterator[tuple[Any, Any, str]]:
    label = path.stem if path.suffix.lower() in TEXTS else path.suffix[1:]
    for i, line in without_end(enumerate(text_lines(path, encoding), 1), lambda row: not row[1].strip()):
        yield line, label, f"{path}: line {i}"
