"""Tables that name a file and a text in each row."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from elman.errors import BadInput
from elman.tasks._parts import Example
from elman.tasks._table import Source, names, rows

Load = Callable[[Path, str], Any]  # the input of an example, of its file and text


def read(paths: Sequence[Source], options: Any, load: Load, group: str = "") -> Iterator[Example]:
    """The files that a table names, with its texts, one after the other.

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
    path, folder, kept, skipped = paths[0], paths[0].parent, 0, 0
    own = group if group in names(path, options.encoding) else ""
    columns = {"--path": options.path, "--text": options.text, "--group": own}
    for i, (file, text, value) in enumerate(rows(path, columns, options.encoding), 1):
        try:
            example = _example(folder, str(file or ""), " ".join(str(text or "").split()), value, load)
        except BadInput as error:
            if not options.skip_bad:
                raise BadInput(f"{path}: row {i}: {error}; --skip-bad leaves it out") from None
            skipped += 1
        else:
            kept += 1
            yield example
    if skipped:
        print(f"{path}: left out {skipped} that cannot be used")
    if not kept:
        raise BadInput(f"{path}: expected rows that can be used, got none")


def _example(folder: Path, file: str, text: str, group: Any, load: Load) -> Example:
    if not file or not text:
        raise BadInput(f"expected a file and a text, got {'no text' if file else 'no file'}")
    whole = folder / file
    return Example(load(whole, text), text, group=file if group is None else group, name=str(whole))
