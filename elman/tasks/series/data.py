"""Reading of series with labels or numbers."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from elman.data.examples import Example, files_by_label, is_files, usable
from elman.data.tables import column_names, rows, separator_of, sources
from elman.data.tables import is_table as is_table_file
from elman.data.validation import is_table, label_of, listed, quoted, sides
from elman.errors import BadInput
from elman.io.files import STDIN, check_exists, text_lines, visible_files
from elman.io.format import counted
from elman.tasks.series.archive import SUFFIXES, Channels, SeriesRow, number_in, read_archive
from elman.tasks.series.options import SeriesOptions

EXPECTED = ".ts or .arff files, tables with --series and --label or --target, or a folder of CSV files by label"
SNIFFED_LINES = 20  # used to detect the separator of a file of a folder


class SeriesExamples(list[Example]):
    """Examples that were read already."""


def read(data: Any, options: SeriesOptions) -> Iterable[Example]:
    """Read series with their labels or numbers.

    Args:
        data: files, a folder, a data frame, or a tuple of series and labels or numbers.
        options: the options of the task.

    Raises:
        BadInput: for unusable data; for an unusable series, without `skip_bad`.
    """
    if isinstance(data, SeriesExamples):
        return data
    if data is None:
        raise BadInput(f"series: expected DATA: {EXPECTED}; got none")
    if is_files(data):
        return (example for path in data for example in read_path(path, options))
    if is_table(data):
        (frame,) = sources(data)
        return _read_table(frame, options, needs_target=True)
    return _read_pairs(*sides("series", data, "series", "labels or numbers"), skip_bad=options.skip_bad)


def read_path(path: Path, options: SeriesOptions, needs_target: bool = True) -> Iterator[Example]:
    """Read the series of a file or a folder.

    Args:
        path: the file or folder.
        options: the options of the task.
        needs_target: whether series must have labels or numbers.

    Raises:
        BadInput: for unusable data; for an unusable series, without `skip_bad`.
    """
    if path.is_dir():
        return _read_folder(path, options)
    check_exists(path, EXPECTED, stream=True)
    if path.suffix.lower() in SUFFIXES:
        return _read_archive(path, options, needs_target)
    if is_table_file(path) and (options.series or needs_target):
        return _read_table(path, options, needs_target)
    if _is_csv(path):
        return iter([read_file(path, None, options)])
    raise BadInput(f"{path}: expected {EXPECTED}; got {path.suffix or 'a file without a suffix'}")


def example_of(values: Channels, target: Any, name: str, where: str) -> Example:
    """Make an example of a series; steps at its end without values are left out.

    Args:
        values: the series, (T, C), NaN where values are missing.
        target: a label, a number, or None.
        name: the name of the example.
        where: its place, for messages.

    Raises:
        BadInput: for a series without values.
    """
    known = np.flatnonzero(~np.isnan(values).all(1))
    if not len(known):
        got = f"{counted(len(values), 'step')} without values" if len(values) else "none"
        raise BadInput(f"{where}: expected at least one step with a value, got {got}")
    return Example(np.ascontiguousarray(values[: known[-1] + 1], np.float32), target, name=name)


def values_of(value: Any, where: str) -> Channels:
    """Validate an in-memory series.

    Args:
        value: the series, (T, C) or (T,), NaN or None where values are missing.
        where: its place, for messages.

    Raises:
        BadInput: for anything else.
    """
    expected = f"{where}: expected a series (steps, channels), or (steps,) of one channel"
    try:
        array = np.asarray(value.cpu() if isinstance(value, Tensor) else value)
        is_numeric = array.dtype.kind in "biuf" or (array.dtype == object and array.ndim in (1, 2))
        values = array.astype(np.float64) if is_numeric else None
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"{expected}: {error}") from None
    if values is None or array.ndim not in (1, 2) or not array.size:
        raise BadInput(f"{expected}, got {array.dtype} of shape {array.shape}")
    too_large = np.abs(values) > np.finfo(np.float32).max
    if too_large.any():
        raise BadInput(f"{where}: expected finite numbers that float32 can hold, got {values[too_large][0]:g}")
    return values.astype(np.float32).reshape(len(values), -1)


def number_of(value: Any, where: str) -> float:
    """Validate the number of a series.

    Raises:
        BadInput: if it is missing or not a finite number.
    """
    number = number_in(value, f"{where}: target")
    if np.isnan(number):
        raise BadInput(f"{where}: expected a number as the target, got none")
    return number


def _target(value: Any, kind: str, where: str, needs_target: bool) -> Any:
    if not kind or (not needs_target and (value is None or str(value).strip().lower() in ("", "?", "nan"))):
        return None
    return label_of(value, where) if kind == "label" else number_of(value, where)


def _read_archive(path: Path, options: SeriesOptions, needs_target: bool) -> Iterator[Example]:
    header, lines = read_archive(path, options.encoding)
    if needs_target and not header.target:
        expected = "a nominal attribute at the end" if path.suffix.lower() == ".arff" else "@classLabel true or "
        expected += "" if path.suffix.lower() == ".arff" else "@targetLabel true"
        raise BadInput(f"{path}: expected labels or numbers to learn, by {expected} in its header; got none")

    def example(row: SeriesRow | BadInput) -> Example:
        if isinstance(row, BadInput):
            raise row
        return example_of(row.values, _target(row.target, header.target, row.where, needs_target), row.where, row.where)

    return usable((partial(example, row) for row in lines), options.skip_bad, str(path))


def _read_pairs(series: Sequence[Any], targets: Sequence[Any], *, skip_bad: bool) -> Iterator[Example]:
    """Read in-memory series; targets that are floats are numbers, all others are labels."""
    kinds = {isinstance(_item(target), float) for target in targets}
    kind = "number" if kinds == {True} else "label"

    def example(i: int, value: Any, target: Any) -> Example:
        name = f"series {i}"
        where = f"series: {name}"
        return example_of(values_of(value, where), _target(_item(target), kind, where, True), name, where)

    pairs = enumerate(zip(series, targets, strict=True), 1)
    return usable((partial(example, i, *pair) for i, pair in pairs), skip_bad, "series")


def _item(value: Any) -> Any:
    """Return a scalar of NumPy or PyTorch as a Python object."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value


def _read_folder(folder: Path, options: SeriesOptions) -> Iterator[Example]:
    """Read the CSV files in the folders of a folder, whose names are the labels."""
    files = files_by_label(folder, _is_csv, "CSV files", "that are not CSV or TSV files")
    return usable((partial(read_file, *item, options) for item in files), options.skip_bad, str(folder))


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() in (".csv", ".tsv")


def read_file(path: Path, label: str | None, options: SeriesOptions) -> Example:
    """Read a CSV file with one series: a row for each step, a column for each channel.

    The first row is a header unless all its cells are numbers.

    Raises:
        BadInput: for a file that cannot be read.
    """
    lines = [line for line in text_lines(path, options.encoding) if line.strip()]
    separator = separator_of(path, lines[:SNIFFED_LINES])
    try:
        cells = list(csv.reader(lines, delimiter=separator))
    except csv.Error as error:
        raise BadInput(f"{path}: expected a CSV file: {error}") from None
    names = cells.pop(0) if cells and not all(map(_is_number, cells[0])) else None
    if not cells:
        raise BadInput(f"{path}: expected a row for each step, got none")
    if names is None:
        if options.channels or options.time:
            name = "--channels" if options.channels else "--time"
            raise BadInput(f"{path}: {name}: expected a first row with the names of the columns, got numbers")
        at = list(range(len(cells[0])))
    else:
        channels = _channels(str(path), names, (options.time,), options)
        at = [names.index(name) for name in channels]
        if options.time is not None:
            time = names.index(_checked(str(path), names, options.time, "--time"))
            cells = _in_order(cells, [row[time] if time < len(row) else None for row in cells])
    values = [
        [number_in(row[i] if i < len(row) else None, f"{path}: row {number}") for i in at]
        for number, row in enumerate(cells, 1)
    ]
    return example_of(np.array(values, np.float32), label, str(path), str(path))


def _is_number(cell: str) -> bool:
    try:
        number_in(cell, "")
    except BadInput:
        return False
    return True


def _checked(where: str, names: Sequence[str], name: str, option: str) -> str:
    if name not in names:
        raise BadInput(f"{where}: {option}: expected one of the columns {listed(names)}; got {name!r:.60}")
    return name


def _channels(where: str, names: Sequence[str], others: Sequence[str | None], options: SeriesOptions) -> list[str]:
    """Return the columns of the channels: those that `options` name, or else all but `others`."""
    channels = options.channels or [name for name in names if name not in others]
    for name in channels:
        _checked(where, names, name, "--channels")
    if not channels:
        raise BadInput(f"{where}: expected columns of channels beside {listed(n for n in others if n)}; got none")
    return channels


def channel_names(data: Any, options: SeriesOptions) -> list[str] | None:
    """Return the names of the channels in data whose columns have names; None for other data.

    Raises:
        BadInput: for columns that do not exist.
    """
    if not (is_files(data) or is_table(data)) or (is_files(data) and data[0].suffix.lower() in SUFFIXES):
        return None
    if not (is_files(data) and data[0].is_dir()):
        if is_files(data) and (data[0] == STDIN or not is_table_file(data[0])):
            return options.channels
        source = data[0] if is_files(data) else next(iter(sources(data)))
        return _table_channels(source, column_names(source, options.encoding, options.quote), options)
    path = next(filter(_is_csv, sorted(visible_files(data[0]))), None)
    if path is None:
        return options.channels
    lines = [line for line, _ in zip(text_lines(path, options.encoding), range(SNIFFED_LINES), strict=False)]
    names = next(csv.reader(lines, delimiter=separator_of(path, lines)), [])
    return None if all(map(_is_number, names)) else _channels(str(path), names, (options.time,), options)


def _table_channels(source: Any, names: Sequence[str], options: SeriesOptions) -> list[str]:
    others = (options.series, options.time, options.label, options.target)
    return _channels(str(source), names, others, options)


def _read_table(source: Any, options: SeriesOptions, needs_target: bool) -> Iterator[Example]:
    """Read a table with a row for each step."""
    names = column_names(source, options.encoding, options.quote)
    if options.series is None:
        raise BadInput(f"{source}: --series: expected the column that identifies the series, one of {listed(names)}")
    if options.label is not None and options.target is not None:
        raise BadInput(f"{source}: expected --label or --target, got both")
    kind, option = ("number", "--target") if options.target is not None else ("label", "--label")
    target = options.target if kind == "number" else options.label
    if target is None and needs_target:
        raise BadInput(
            f"{source}: expected the column of labels (--label) or of numbers to predict (--target), one of "
            f"{listed(names)}; got neither"
        )
    if not needs_target and target not in names:
        target = None
    channels = _table_channels(source, names, options)
    columns = {"--series": options.series, "--time": options.time or "", option: target or ""}
    columns |= {f"--channels {name}": name for name in channels}
    by_series = dict[Any, list[tuple[int, Any, Any, tuple[Any, ...]]]]()
    for i, (series, time, value, *cells) in enumerate(rows(source, columns, options.encoding, options.quote), 1):
        if series is None and all(cell is None for cell in (time, value, *cells)):
            continue  # an empty line
        by_series.setdefault(series, []).append((i, time, value, tuple(cells)))

    def example(series: Any, steps: list[tuple[int, Any, Any, tuple[Any, ...]]]) -> Example:
        where = f"{source}: series {quoted(series)}"
        if series is None:
            raise BadInput(f"{source}: row {steps[0][0]}: expected a series in {options.series!r:.60}, got none")
        if options.time is not None:
            missing = next((i for i, time, *_ in steps if time is None), None)
            if missing is not None:
                raise BadInput(f"{source}: row {missing}: expected a time in {options.time!r:.60}, got none")
            steps = _in_order(steps, [time for _, time, *_ in steps])
        targets = {str(value).strip(): value for _, _, value, _ in steps if value is not None}
        if len(targets) > 1:
            raise BadInput(f"{where}: expected one {kind} in {target!r:.60}, got {listed(targets, 80)}")
        values = [
            [
                number_in(cell, f"{source}: row {i}: column {name!r:.60}")
                for cell, name in zip(cells, channels, strict=True)
            ]
            for i, _, _, cells in steps
        ]
        value = next(iter(targets.values()), None)
        result = _target(value, kind if target else "", where, needs_target)
        return example_of(np.array(values, np.float32), result, str(series), where)

    return usable((partial(example, *item) for item in by_series.items()), options.skip_bad, str(source))


def _in_order(items: list[Any], times: list[Any]) -> list[Any]:
    """Return items in the order of their times: numbers, or texts such as ISO 8601, or objects of one type."""
    numbers = [_as_float(time) for time in times]
    keys: list[Any] = [str(time) for time in times] if any(number is None for number in numbers) else numbers
    return [items[i] for i in sorted(range(len(items)), key=keys.__getitem__)]


def _as_float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
