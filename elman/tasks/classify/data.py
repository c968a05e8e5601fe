"""Texts with labels, from wherever they are."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from elman.errors import BadInput
from elman.files import read_text
from elman.tasks._parts import Example
from elman.tasks._table import column, read_table
from elman.tasks.classify.options import ClassifyOptions

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
TEXTS = ("", ".txt", ".text")  # which say nothing of what is in a file


def pairs(texts: Sequence[str], labels: Sequence[Any]) -> list[Example]:
    """N texts and N labels.

    Raises:
        BadInput: for numbers of them that differ, or what is no text.
    """
    if len(texts) != len(labels):
        raise BadInput(f"classify: expected as many labels as texts, got {len(labels)} and {len(texts)}")
    rows = zip(texts, labels, strict=True)
    return [_example(text, label, f"text {i}") for i, (text, label) in enumerate(rows, 1)]


def read(paths: Sequence[Path], options: ClassifyOptions) -> list[Example]:
    """The texts of tables, or of files of one label each.

    Raises:
        BadInput: for files that cannot be read; for a text or a label that is missing, if these are not skipped.
    """
    found, skipped = list[Example](), 0
    for path in paths:
        rows = _table(path, options) if path.suffix.lower() in TABLES else _lines(path, options.encoding)
        for text, label, name in rows:
            try:
                found.append(_example(text, label, name))
            except BadInput as error:
                if not options.skip_bad:
                    raise BadInput(f"{error}; --skip-bad leaves it out") from None
                skipped += 1
    if skipped:
        print(f"{', '.join(map(str, paths))}: left out {skipped} without a text or a label")
    return found


def _example(text: Any, label: Any, name: str) -> Example:
    if not isinstance(text, str) or not text.strip():
        came = "an empty one" if isinstance(text, str) else "none" if text is None else repr(text)
        raise BadInput(f"{name}: expected a text, got {came:.40}")
    if label is None or label != label or not str(label).strip():  # NaN is not itself
        raise BadInput(f"{name}: expected a label, got {'none' if label is None else repr(label)}")
    text = text.strip()
    return Example(text, str(label).strip(), group=text, name=name)  # the same text twice is no test


def _table(path: Path, options: ClassifyOptions) -> Iterator[tuple[Any, Any, str]]:
    table = read_table(path, options.encoding)
    texts, labels = column(path, table, options.text, "--text"), column(path, table, options.label, "--label")
    for i, (text, label) in enumerate(zip(texts.to_list(), labels.to_list(), strict=True), 1):
        yield text, label, f"{path}: row {i}"


def _lines(path: Path, encoding: str) -> Iterator[tuple[Any, Any, str]]:
    label = path.stem if path.suffix.lower() in TEXTS else path.suffix[1:]
    for i, line in enumerate(read_text(path, encoding).splitlines(), 1):
        yield line, label, f"{path}: line {i}"
