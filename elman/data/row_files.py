"""Rows of Parquet and Arrow files, read in blocks: data of any size, in little memory.

pyarrow reads one row group of one file at a time, page by page, and only the columns that are needed. Polars, which
reads whole tables elsewhere, does not say where row groups begin, and does not read Arrow streams, which the package
`datasets` writes.
"""

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.data.examples import tell_left_out
from elman.data.tables import check_column
from elman.data.validation import shortened
from elman.errors import BadInput
from elman.extras import needs
from elman.io.files import check_regular, visible_files
from elman.io.format import counted
from elman.io.terminal import note

PARQUET, ARROW = (".parquet", ".pq"), (".arrow", ".feather", ".ipc")  # suffixes
EXPECTED = f"Parquet or Arrow files ({', '.join((*PARQUET, *ARROW))})"
BLOCK_BYTES = 1 << 18  # approximate size of a block, by what files say of the size of their columns
MAX_BLOCK_ROWS = 1024
BUFFER_BYTES = 1 << 16  # of a column of Parquet that are read at once
MAX_NOTES = 8  # empty files that are named
_REMOTE = re.compile(r"([a-z][a-z0-9+-]+):/+(.+)")  # a `Path` leaves one of several slashes


class DataFile(NamedTuple):
    """A file of rows.

    name: for messages.
    path: its path in the file system.
    filesystem: a file system of pyarrow; None: that of the machine.
    """

    name: str
    path: str
    filesystem: Any = None

    @property
    def is_parquet(self) -> bool:
        """True for Parquet, False for Arrow."""
        return self.path.lower().endswith(PARQUET)


class RowGroup(NamedTuple):
    """Rows that are read together: a row group of a Parquet file, or all rows of an Arrow file.

    file: index of the file.
    number: index of the row group in its file.
    first: number of rows before it in its file.
    rows: number of rows.
    """

    file: int
    number: int
    first: int
    rows: int


class RowFiles:
    """The rows of Parquet and Arrow files, of which only metadata are in memory.

    Args:
        paths: files and folders; also URIs that pyarrow reads, such as s3://bucket/folder, as paths.
        columns: names of the columns, by the option that names each.

    Attributes:
        files: the files.
        groups: the row groups of all files in order, without empty ones.
        block_rows: number of rows of a block: as many as take about `BLOCK_BYTES`.
        row_bytes: approximate size of a row.

    Raises:
        BadInput: for a file that cannot be read or has no such column; if the columns of two files differ in type; if
            there is no row.
    """

    def __init__(self, paths: Sequence[Path], columns: Mapping[str, str]) -> None:
        with needs("stream", "--stream"):
            import pyarrow.ipc
            import pyarrow.parquet
        self._damage = (pyarrow.ArrowException, OSError, ValueError, NotImplementedError)  # raised for damaged files
        self._arrow, self._columns = pyarrow, columns
        self._types = dict[str, tuple[str, str]]()  # type of each column, and the file that has it
        self.files = [file for path in paths for file in self._files_at(path)]
        self.groups, size = list[RowGroup](), 0
        empty = list[str]()
        for i, file in enumerate(self.files):
            with self._damage_named(file):
                groups, group_bytes = self._parquet_groups(i) if file.is_parquet else self._arrow_group(i)
            size += group_bytes
            self.groups += groups
            if not groups:
                empty.append(file.name)
        names = ", ".join(map(str, paths))
        if not self.groups:
            raise BadInput(f"{names:.200}: expected at least one row, got {counted(len(self.files), 'empty file')}")
        for name in empty[:MAX_NOTES]:
            note(f"{name}: has no rows")
        if len(empty) > MAX_NOTES:
            note(f"{names:.200}: {len(empty) - MAX_NOTES:,} more files have no rows")
        self.row_bytes = max(size // self.rows, 1)
        self.block_rows = min(max(BLOCK_BYTES // self.row_bytes, 1), MAX_BLOCK_ROWS)

    @property
    def rows(self) -> int:
        """Number of rows of all files."""
        return sum(group.rows for group in self.groups)

    def blocks_of_groups(self) -> NDArray[np.int64]:
        """Return the number of blocks of each row group, (G,)."""
        return np.array([-(-group.rows // self.block_rows) for group in self.groups], np.int64)

    def read(self, group: int, first: int = 0) -> Iterator[list[tuple[Any, ...]]]:
        """Iterate over the blocks of a row group; each is a list of rows, tuples of the values of the columns.

        Args:
            group: index of the row group.
            first: index of the first block in the row group.

        Raises:
            BadInput: for a damaged file, or one that has changed, when the iterator reaches it.
        """
        of_group = self.groups[group]
        file, begin = self.files[of_group.file], first * self.block_rows
        with closing(self._rows(file, of_group, begin)) as rows:
            for left in range(of_group.rows - begin, 0, -self.block_rows):
                block = list(islice(rows, min(left, self.block_rows)))
                if len(block) < min(left, self.block_rows):
                    raise changed(file.name)
                yield block

    def place(self, group: int, block: int, row: int) -> str:
        """Return the place of a row for messages, from the indices of row group, block in it, and row in that."""
        of_group = self.groups[group]
        return f"{self.files[of_group.file].name}: row {of_group.first + block * self.block_rows + row + 1:,}"

    # Files.

    def _files_at(self, path: Path) -> list[DataFile]:
        """Return the files at a path, sorted: itself, those in a folder and its subfolders, or those at a URI."""
        is_local = path.exists()
        if not is_local and (match := _REMOTE.fullmatch(str(path))):
            files, others = self._remote_files(*match.groups()), list[Path]()
        elif is_local and path.is_dir():
            paths = [part for part in visible_files(path) if not part.name.startswith("_")]  # as Spark marks its own
            files = [DataFile(str(part), str(part)) for part in paths]
            others = [Path(file.path) for file in files if not _is_data(file.path)]
        else:
            check_regular(path, "a Parquet or Arrow file, or a folder of them")
            files, others = [DataFile(str(path), str(path))], []
        data = [file for file in files if _is_data(file.path)]
        if not data:
            got = "another file" if path.is_file() else "a folder without any"
            raise BadInput(f"{path}: --stream: expected {EXPECTED}, got {got}")
        tell_left_out(str(path), others, "that are not Parquet or Arrow")
        for file in data:
            if file.filesystem is None:
                check_regular(Path(file.path), "a Parquet or Arrow file")
        return data

    def _remote_files(self, scheme: str, rest: str) -> list[DataFile]:
        from pyarrow import fs

        uri = f"{scheme}://{'/' if scheme == 'file' else ''}{rest}"
        try:
            filesystem, root = fs.FileSystem.from_uri(uri)
            info = filesystem.get_file_info(root)
            is_folder = info.type == fs.FileType.Directory
            infos = filesystem.get_file_info(fs.FileSelector(root, recursive=True)) if is_folder else [info]
        except (*self._damage, ImportError) as error:
            raise BadInput(
                f"{uri}: --stream: expected a place that pyarrow reads, got an error: {_first_line(error)}; check the "
                "address, the network and your credentials"
            ) from None
        if info.type == fs.FileType.NotFound:
            raise BadInput(f"{uri}: --stream: expected {EXPECTED}, but it does not exist")
        paths = sorted(info.path for info in infos if info.type == fs.FileType.File and info.base_name[0] not in "._")
        return [DataFile(f"{scheme}://{path}", path, filesystem) for path in paths]

    @contextmanager
    def _damage_named(self, file: DataFile) -> Iterator[None]:
        """Turn errors about a file into `BadInput` with its name."""
        try:
            yield
        except self._damage as error:
            if isinstance(error, MemoryError):
                raise BadInput(
                    f"{file.name}: expected row groups or record batches that fit in memory, got one that does not: "
                    f"{_first_line(error)}; write them with fewer rows"
                ) from None
            expected = "Parquet" if file.is_parquet else "Arrow"
            raise BadInput(
                f"{file.name}: expected {expected}, got a file that cannot be read: {_first_line(error)}"
            ) from None

    @contextmanager
    def _opened(self, file: DataFile) -> Iterator[Any]:
        """Open a file; one of Arrow is mapped into memory, of which the system takes only what is being read."""
        if file.filesystem is not None:
            source = file.filesystem.open_input_file(file.path)
        else:
            source = (self._arrow.OSFile if file.is_parquet else self._arrow.memory_map)(file.path)
        with source:
            yield source

    # What files have.

    def _parquet_groups(self, i: int) -> tuple[list[RowGroup], int]:
        """Return the row groups of a Parquet file, and the size of the columns in bytes."""
        groups, first, size = list[RowGroup](), 0, 0
        with self._opened(self.files[i]) as source:
            parquet = self._arrow.parquet.ParquetFile(source)
            self._check_columns(self.files[i], parquet.schema_arrow)
            for index in range(parquet.metadata.num_row_groups):
                metadata = parquet.metadata.row_group(index)
                if metadata.num_rows:
                    groups.append(RowGroup(i, index, first, metadata.num_rows))
                first += metadata.num_rows
                chunks = map(metadata.column, range(metadata.num_columns))
                size += sum(chunk.total_uncompressed_size for chunk in chunks if self._is_needed(chunk.path_in_schema))
        return groups, size

    def _is_needed(self, path: str) -> bool:
        """Return whether a column of Parquet, "words.list.element", is part of one that is read."""
        return any(name and (path == name or path.startswith(f"{name}.")) for name in self._columns.values())

    def _arrow_group(self, i: int) -> tuple[list[RowGroup], int]:
        """Return the rows of an Arrow file as a group, and its size in bytes."""
        file = self.files[i]
        with self._opened(file) as source:
            self._check_columns(file, self._arrow_reader(source).schema)
            rows = sum(batch.num_rows for batch in self._arrow_batches(source))
            return [RowGroup(i, 0, 0, rows)] if rows else [], source.size()

    def _check_columns(self, file: DataFile, schema: Any) -> None:
        """Check that a file has the columns, with the same types as the files before it."""
        for option, name in self._columns.items():
            check_column(Path(file.name), schema.names, name, option)
            kind = self._kind(schema.field(name).type)
            before, first = self._types.setdefault(name, (kind, file.name))
            if kind != before:
                raise BadInput(
                    f"{file.name}: {option}: expected {before} in the column {name!r}, as in {first}, got {kind}"
                )

    def _kind(self, kind: Any) -> str:
        """Return the type of a column in words, without differences that do not matter."""
        types = self._arrow.types
        if types.is_dictionary(kind):
            return self._kind(kind.value_type)
        if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
            return "texts"
        if types.is_list(kind) or types.is_large_list(kind):
            return f"lists of {self._kind(kind.value_type)}"
        return "integers" if types.is_integer(kind) else f"values of type {kind}"

    # Rows.

    def _rows(self, file: DataFile, group: RowGroup, skip: int) -> Generator[tuple[Any, ...], None, None]:
        """Iterate over the rows of a group, behind the first `skip` ones."""
        with self._damage_named(file), self._opened(file) as source:
            batches = self._parquet_batches(source, group.number) if file.is_parquet else self._arrow_batches(source)
            for batch in batches:
                for begin in range(skip, batch.num_rows, MAX_BLOCK_ROWS):
                    part = batch.slice(begin, MAX_BLOCK_ROWS)
                    part.validate(full=True)  # with a wrong offset, other memory is read
                    yield from zip(*(part.column(name).to_pylist() for name in self._columns.values()), strict=True)
                skip = max(skip - batch.num_rows, 0)

    def _parquet_batches(self, source: Any, index: int) -> Iterator[Any]:
        # Buffered, or pyarrow reads the whole columns of the row group at once.
        parquet = self._arrow.parquet.ParquetFile(source, buffer_size=BUFFER_BYTES, pre_buffer=False)
        columns = list(dict.fromkeys(self._columns.values()))
        yield from parquet.iter_batches(self.block_rows, row_groups=[index], columns=columns, use_threads=False)

    def _arrow_batches(self, source: Any) -> Iterator[Any]:
        """Iterate over the record batches of an Arrow file or stream, with the columns alone."""
        names = self._arrow_reader(source).schema.names
        needed = sorted({names.index(name) for name in self._columns.values()})
        options = self._arrow.ipc.IpcReadOptions(included_fields=needed)
        reader = self._arrow_reader(source, options=options)
        if hasattr(reader, "get_batch"):
            yield from map(reader.get_batch, range(reader.num_record_batches))
        else:
            yield from reader

    def _arrow_reader(self, source: Any, **options: Any) -> Any:
        """Return a reader of the file format of Arrow, or of the stream format, which `datasets` writes."""
        source.seek(0)
        try:
            return self._arrow.ipc.open_file(source, **options)
        except self._arrow.ArrowInvalid:
            source.seek(0)
            return self._arrow.ipc.open_stream(source, **options)


def changed(name: str) -> BadInput:
    """Return the exception for a file that has changed since the training began."""
    return BadInput(f"{name}: expected the same rows as before, got others: the file has changed")


def _first_line(error: Exception) -> str:
    return shortened(next(iter(str(error).splitlines()), "") or type(error).__name__, 300)


def _is_data(path: str) -> bool:
    return path.lower().endswith((*PARQUET, *ARROW))


def resolved(path: Path) -> str:
    """Return the absolute path of a file or folder; a URI as it is."""
    return str(path) if _REMOTE.fullmatch(str(path)) and not path.exists() else str(path.resolve())
