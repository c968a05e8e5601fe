"""Tables that name a file and a text in each row."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from elman.data.examples import Example, usable
from elman.data.tables import Source, column_names, rows
from elman.data.validation import group_of, quoted, text_of
from elman.errors import BadInput
from elman.io.files import is_stream

Load = Callable[[Path, str], Any]  # loads the input of an example from its file and text


def read(paths: Sequence[Source], options: Any, load: Load, group: str = "") -> Iterator[Example]:
    """Iterate over the examples of a table of files and texts.

    Args:
        paths: a single table; its files are relative to its folder.
        options: the options `path` and `text`, which name columns, `encoding`, `quote` and `skip_bad`.
        load: reads a file; its BadInput errors are reported with the row.
        group: column of groups, used if the table has it.

    Raises:
        BadInput: if the table lacks these columns, a row has no text, or a file cannot be read.
    """
    if len(paths) != 1:
        raise BadInput(f"{paths[1]}: expected one table of files and texts, got {len(paths)} files")
    path, folder = paths[0], paths[0].parent
    group_column = group if group in column_names(path, options.encoding, options.quote) else ""
    columns = {"--path": options.path, "--text": options.text, "--group": group_column}
    factories = (
        partial(_example, f"{path}: row {i}", folder, file, text, value, load)
        for i, (file, text, value) in enumerate(rows(path, columns, options.encoding, options.quote), 1)
    )
    return usable(factories, options.skip_bad, str(path))


def _example(where: str, folder: Path, file: Any, text: Any, group: Any, load: Load) -> Example:
    if not isinstance(file, str | Path) or not str(file):
        raise BadInput(f"{where}: expected a file, got {quoted(file) if file else 'none'}")
    text, full_path = " ".join(text_of(text, where).split()), folder / file
    if is_stream(full_path):  # reading it might wait for ever
        raise BadInput(f"{where}: {full_path}: expected a file, got a pipe or a device")
    try:
        loaded = load(full_path, text)
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None
    return Example(loaded, text, group=None if group is None else group_of(group, where), name=str(full_path))
