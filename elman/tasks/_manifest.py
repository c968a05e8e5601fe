"""Tables that name a file and a text in each row."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from elman.errors import BadInput
from elman.tasks._parts import Example
from elman.tasks._table import column, read_table

Load = Callable[[Path, str], Any]  # the input of an example, of its file and text


def read(paths: Sequence[Path], options: Any, load: Load, group: str = "") -> list[Example]:
    """The files that a table names, with its texts.

    Args:
        paths: of one table, to whose folder its files are relative.
        options: with `path` and `text`, columns; `encoding`; `skip_bad`.
        load: reads a file; a BadInput of it is of this row.
        group: a column, of groups; rows of one file are a group where a table has no such column.

    Raises:
        BadInput: for a table without these columns, a row without a text, or a file that cannot be read.
    """
    if len(paths) != 1:
        raise BadInput(f"{paths[1]}: expected one table of files and texts, got {len(paths)} files")
    found = list(_rows(paths[0], options, load, group))
    kept = [example for example in found if example]
    if len(kept) < len(found):
        print(f"{paths[0]}: left out {len(found) - len(kept)} that cannot be used")
    if not kept:
        raise BadInput(f"{paths[0]}: expected rows that can be used, got none")
    return kept


def _rows(path: Path, options: Any, load: Load, group: str) -> Iterator[Example | None]:
    """An example of each row; None where it cannot be used, if these are skipped."""
    table = read_table(path, options.encoding, as_text=True)
    files = column(path, table, options.path, "--path").to_list()
    texts = column(path, table, options.text, "--text").to_list()
    groups = table[group].to_list() if group in table.columns else [None] * len(files)
    for i, (file, text, own) in enumerate(zip(files, texts, groups, strict=True), 1):
        try:
            yield _example(path, i, file, " ".join(str(text or "").split()), own, load)
        except BadInput:
            if not options.skip_bad:
                raise
            yield None


def _example(path: Path, i: int, file: str | None, text: str, group: Any, load: Load) -> Example:
    if not file or not text:
        raise BadInput(
            f"{path}: row {i}: expected a file and a text, got {'no text' if file else 'no file'}; "
            "--skip-bad leaves it out"
        )
    whole = path.parent / file
    return Example(load(whole, text), text, group=file if group is None else group, name=str(whole))
