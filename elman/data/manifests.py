"""Tables that name a file and a text in each row."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from elman.data.examples import Example, usable
from elman.data.tables import Source, names, rows
from elman.data.validation import group_of, quoted, text_of
from elman.errors import BadInput

Load = Callable[[Path, str], Any]  # the input of an example, of its file and text


def read(paths: Sequence[Source], options: Any, load: Load, group: str = "") -> Iterator[Example]:
    """The files that a table names, with its texts, one after the other.

    Args:
        paths: of one table, to whose folder its files are relative.
        options: with `path` and `text`, columns; `encoding`; `quote`; `skip_bad`.
        load: reads a file; a BadInput of it is of this row.
        group: a column, of groups; used where the table has it.

    Raises:
        BadInput: for a table without these columns, a row without a text, or a file that cannot be read.
    """
    if len(paths) != 1:
        raise BadInput(f"{paths[1]}: expected one table of files and texts, got {len(paths)} files")
    path, folder = paths[0], paths[0].parent
    own = group if group in names(path, options.encoding, options.quote) else ""
    columns = {"--path": options.path, "--text": options.text, "--group": own}
    made = (
        partial(_example, f"{path}: row {i}", folder, file, text, value, load)
        for i, (file, text, value) in enumerate(rows(path, columns, options.encoding, options.quote), 1)
    )
    return usable(made, options.skip_bad, str(path))


def _example(where: str, folder: Path, file: Any, text: Any, group: Any, load: Load) -> Example:
    if not isinstance(file, str | Path) or not str(file):
        raise BadInput(f"{where}: expected a file, got {quoted(file) if file else 'none'}")
    text, whole = " ".join(text_of(text, where).split()), folder / file
    try:
        found = load(whole, text)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None
    return Example(found, text, group=None if group is None else group_of(group, where), name=str(whole))
