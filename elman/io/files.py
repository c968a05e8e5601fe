"""Reading and writing files: readers raise clear errors, writers are atomic."""

import contextlib
import io
import os
import re
import secrets
import select
import shutil
import stat
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import chain, count
from pathlib import Path
from typing import IO, Any, TextIO, TypeVar

import elman
from elman.errors import BadInput
from elman.io import text_encoding
from elman.io.text_encoding import NotText, decoded

T = TypeVar("T")
PICTURES = (".png", ".svg")
STDIN = Path("-")  # standard input as a path to read; it can be read several times
STDOUT = Path("-")  # standard output as a path to write
MAKER = f"elman {elman.__version__}"  # generator name in the header of pages and pictures
# The generator name as HTML, SVG, PNG and MIDI files contain it. It is always within the first bytes.
_GENERATOR_MARK = re.compile(
    rb'<meta name="generator" content="elman |<cc:Agent>\s*<dc:title>elman |tEXtSoftware\0elman |'
    rb"\xff\x01[\x00-\x7f]elman "
)
_MARK_BYTES = 8192
_INHERITED = re.compile(r"/dev/(stdin|fd/\d+)|/proc/(self|\d+)/fd/\d+")  # pipes that the shell has opened for a process
MAX_FOLDERS = 100  # in each other
PIPE_SECONDS = 60.0  # to wait for a process that writes to a named pipe
TEMPORARY = re.compile(r"\.elman-[0-9a-f]{16}\.tmp")  # names of temporary files


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Read a whole text file. Line ends are kept; a byte order mark is dropped.

    Raises:
        BadInput: if the file does not exist, is a folder, is empty, is binary, or does not have this encoding.
    """
    return "".join(text_blocks(path, encoding))


def text_blocks(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """Iterate over a text file in blocks of arbitrary length, without a byte order mark.

    Raises:
        BadInput: as `read_text`, when the iterator reaches the error.
    """
    with opened(path, stream=True) as file:
        blocks = iter(partial(file.read, text_encoding.BLOCK), b"")
        try:
            yield from _unmarked(decoded(blocks, encoding))
        except NotText as error:
            raise BadInput(f"{path}: {error}") from None


def text_lines(path: Path, encoding: str = "utf-8", newlines: bool = False) -> Iterator[str]:
    """Iterate over the lines of a text file, without their line ends.

    Args:
        path: the file.
        encoding: encoding of the text.
        newlines: if True, only newlines end lines; if False, also carriage returns, alone or before a newline.

    Raises:
        BadInput: as `read_text`, when the iterator reaches the error.
    """
    return lines_in(text_blocks(path, encoding), newlines)


def input_lines(encoding: str | None = None) -> Iterator[list[str]]:
    """Iterate over the lines of standard input as they arrive, without line ends and without a byte order mark.

    Args:
        encoding: encoding of the text; None means that of the terminal.

    Yields:
        The lines that one read completes: all that have been written to a pipe, or up to about 256 KB of a file.

    Raises:
        BadInput: if the input is binary or does not have this encoding, after all lines before the error.
    """
    binary = getattr(sys.stdin, "buffer", None)
    if binary is None:  # a replacement of sys.stdin whose text is already decoded
        texts: Iterator[str] = iter(sys.stdin)
    else:
        blocks = iter(partial(binary.read1, text_encoding.BLOCK), b"")
        first = next(blocks, b"")
        texts = decoded(chain([first], blocks), encoding or sys.stdin.encoding) if first else iter(())
    number = 1
    try:
        for lines in _complete_lines(_unmarked(texts), newlines=False):
            number += len(lines)
            yield lines
    except NotText as error:
        raise BadInput(f"standard input: line {number}: {error}") from None


@lru_cache(1)
def _bytes_of(stdin: TextIO) -> bytes:
    return stdin.buffer.read() if hasattr(stdin, "buffer") else stdin.read().encode()


def _unmarked(blocks: Iterator[str]) -> Iterator[str]:
    """Drop a byte order mark from the first non-empty text."""
    texts = filter(None, blocks)
    return filter(None, chain([next(texts, "").removeprefix("\ufeff")], texts))


def lines_in(blocks: Iterable[str], newlines: bool) -> Iterator[str]:
    """Iterate over the lines of a text that comes in blocks.

    Args:
        blocks: blocks of the text.
        newlines: as in `text_lines`.
    """
    return chain.from_iterable(_complete_lines(blocks, newlines))


def _complete_lines(blocks: Iterable[str], newlines: bool) -> Iterator[list[str]]:
    """Yield the lines that each block completes, and at the end an incomplete one."""
    rest, decoder = list[str](), io.IncrementalNewlineDecoder(None, translate=not newlines)
    texts = chain((decoder.decode(block) for block in blocks), map(partial(decoder.decode, final=True), [""]))
    for text in texts:
        head, *lines = text.split("\n")
        rest.append(head)  # a list, since a line may be long: adding up its blocks would copy it again and again
        if lines:
            lines.insert(0, "".join(rest))
            rest = [lines.pop()]
        yield lines
    if last := "".join(rest):
        yield [last]


def without_end(items: Iterable[T], is_empty: Callable[[T], bool]) -> Iterator[T]:
    """Iterate over items up to the last one that is not empty.

    >>> list(without_end(["a", "", "b", "", ""], lambda line: not line))
    ['a', '', 'b']
    """
    pending = list[T]()
    for item in items:
        pending.append(item)
        if not is_empty(item):
            yield from pending
            pending.clear()


def is_readable_again(path: Path) -> bool:
    """Return whether a file can be read several times. A named pipe cannot."""
    return path == STDIN or path.is_file()


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """Read the bytes of a file.

    Args:
        path: the file.
        most: the largest size in bytes, which is checked before memory is taken; None means any.

    Raises:
        BadInput: if the file cannot be read, or is larger.
    """
    with opened(path) as file:
        if most is None:
            return file.read()
        size = os.fstat(file.fileno()).st_size if path != STDIN else 0  # 0 for a pipe
        data = file.read(most + 1) if size <= most else b""
    if max(size, len(data)) > most:
        got = f"{size:,}" if size > most else "more"
        raise BadInput(f"{path}: expected a file of at most {most:,} bytes, got {got}")
    return data


@contextlib.contextmanager
def opened(path: Path, stream: bool = False) -> Iterator[IO[bytes]]:
    """Open a file to read bytes; `STDIN` opens standard input.

    Args:
        path: the file.
        stream: as for `check_exists`.

    Raises:
        BadInput: if the file cannot be read; if no process writes to a named pipe for `PIPE_SECONDS`.
    """
    if path == STDIN:
        yield io.BytesIO(_bytes_of(sys.stdin))
        return
    check_exists(path, "a file", stream)
    try:
        with _named_pipe(path) if _is_named_pipe(path) else path.open("rb") as file:
            yield file
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from None


def _is_named_pipe(path: Path) -> bool:
    return stat.S_ISFIFO(path.stat().st_mode) and not _INHERITED.fullmatch(str(path))


def _named_pipe(path: Path) -> IO[bytes]:
    """Open a named pipe once a process writes to it. A plain `open` would wait for ever if none does."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        first = b""
        if not poll.poll(1000 * PIPE_SECONDS):
            try:
                first = os.read(descriptor, text_encoding.BLOCK)
            except BlockingIOError:  # a process has opened the pipe, and has not written anything yet
                pass
            else:
                if not first:
                    raise BadInput(
                        f"{path}: expected a process that writes to this pipe, got none in {PIPE_SECONDS:g} seconds"
                    )
        os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    file = os.fdopen(descriptor, "rb")
    return io.BytesIO(first + file.read()) if first else file


def check_exists(path: Path, what: str, stream: bool = False) -> None:
    """Check that a path is a file that can be read: a regular file, or a pipe that the shell has opened, `<(...)`.

    Reading a device such as /dev/zero would take all memory, and reading another pipe might wait for ever.

    Args:
        path: the file.
        what: what the file is expected to be, for the error message.
        stream: whether named pipes and devices are read too, in blocks, as texts are.

    Raises:
        BadInput: if it is not.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{path}: expected {what}, but it does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: the name has a null character or a surrogate
        reason = error.strerror or error if isinstance(error, OSError) else error
        raise BadInput(f"{path!s:.200}: cannot be read: {reason}") from None
    is_pipe = stat.S_ISFIFO(mode) and _INHERITED.fullmatch(str(path))
    if stat.S_ISDIR(mode) or not (stream or stat.S_ISREG(mode) or is_pipe):
        raise BadInput(f"{path}: expected {what}, got {_kind_of(mode)}")


def check_regular(path: Path, what: str) -> None:
    """Check that a path is a regular file, for files that others name: in a run folder, in a table.

    Args:
        path: the file.
        what: as for `check_exists`.

    Raises:
        BadInput: if it is not.
    """
    check_exists(path, what)
    if not path.is_file():
        raise BadInput(f"{path}: expected {what}, got {_kind_of(path.stat().st_mode)}")


def is_stream(path: Path) -> bool:
    """Return whether a path is standard input, a pipe or a device; False if it does not exist."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return path == STDIN
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _kind_of(mode: int) -> str:
    """Return what a path is that is not a regular file, by its mode."""
    return "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device"


def visible_files(folder: Path) -> Iterator[Path]:
    """Iterate over the files in a folder and its subfolders, sorted. Links are followed; hidden names are skipped.

    Raises:
        OSError: if a folder cannot be read.
        BadInput: if there are more than `MAX_FOLDERS` folders in each other.
    """
    return _visible(folder, frozenset())


def _visible(folder: Path, ancestors: frozenset[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in ancestors:  # a link to one of its own parent folders
        return
    if len(ancestors) >= MAX_FOLDERS:
        raise BadInput(f"{folder!s:.200}: expected at most {MAX_FOLDERS} folders in each other, got more")
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if path.is_dir():
            yield from _visible(path, ancestors | {real})
        else:
            yield path


def write_whole(path: Path, data: bytes | str) -> None:
    """Write a file atomically: at every moment the path holds the old or the new content, never a part.

    The content is on the disk when the function returns, so a power loss does not lose it. If the path is a symbolic
    link, the file replaces the link; what it points to does not change.

    Raises:
        OSError: if the file cannot be written. `filename` is this path, and the old file is unchanged.
    """
    with replacing(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[IO[bytes]]:
    """Yield a new file beside `path`. If the body fails, the file is removed, and an OSError names `path`.

    Its name is random and must be new, so nobody can plant a link there. While its process lives it is locked, by which
    `remove_leftovers` recognizes the files of processes that died.
    """
    temporary, is_ours = _temporary_name(path), False
    try:
        with temporary.open("xb") as file:
            is_ours = True
            _lock(file, wait=True)
            yield file
    except BaseException as error:
        if is_ours:
            with contextlib.suppress(OSError):
                temporary.unlink()
        if isinstance(error, OSError) and error.filename in (None, str(temporary), temporary):
            error.filename, error.filename2 = str(path), None
        raise


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".elman-{secrets.token_hex(8)}.tmp")


def _lock(file: IO[bytes], wait: bool = False) -> bool:
    """Lock a file until it is closed; return False if another process has locked it and `wait` is False."""
    if sys.platform == "win32":  # which does not remove open files anyway
        return True
    import fcntl

    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks, on which runs cannot be trained either
        return wait
    return True


def _replace(file: IO[bytes], path: Path) -> None:
    """Move a temporary file to `path`, once its content is on the disk."""
    file.flush()
    os.fsync(file.fileno())
    if sys.platform == "win32":  # which does not rename open files
        file.close()
    Path(file.name).replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make sure that the names of the files in a folder are on the disk, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of processes that died. Those that a living process is writing are locked, and stay."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if TEMPORARY.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            with contextlib.suppress(OSError), path.open("r+b") as file:
                if _lock(file):
                    path.unlink()


def check_no_link(folder: Path) -> None:
    """Check that a folder inside a run is not a symbolic link, through which files would be written elsewhere.

    Raises:
        BadInput: if it is.
    """
    if folder.is_symlink():
        raise BadInput(
            f"{folder}: expected a folder, got a symbolic link, which elman does not write through; replace it with a "
            "folder, or move the whole run and link to that"
        )


def append_text(path: Path, text: str) -> None:
    """Append a text to a file, which is created if it does not exist.

    Raises:
        OSError: if the file cannot be written, also if it is a symbolic link.
    """
    no_link = getattr(os, "O_NOFOLLOW", 0)  # Windows has none
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | no_link, 0o666)
    with os.fdopen(descriptor, "a", encoding="utf-8", newline="") as file:
        file.write(text)


def write_new(path: Path, parts: Iterable[bytes | str], prefix: str = "") -> None:
    """Write a new file atomically. Never overwrite, not even a file created since `check_new`.

    Args:
        path: the file.
        parts: its content in parts, each of which is written as soon as it is computed.
        prefix: prefix of the path in error messages, for example "--out ".

    Raises:
        BadInput: if the file exists.
        OSError: as `write_whole`.
    """
    with _temporary(path) as file:
        file.writelines(part.encode() if isinstance(part, str) else part for part in parts)
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            raise BadInput(
                f"{prefix}{path}: expected a new name, got a file that another process has written"
            ) from None
        try:
            _replace(file, path)
        except BaseException:
            path.unlink()
            raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Yield a temporary file that replaces `path` at the end, unless the body fails.

    Raises:
        OSError: as `write_whole`.
    """
    with _temporary(path) as file:
        yield file
        _replace(file, path)


@contextlib.contextmanager
def numbered(folder: Path, stem: str, suffix: str) -> Iterator[Path]:
    """Yield the next free path, stem-N, for a file that the body writes. No other process gets the same path.

    Raises:
        OSError: if the folder is not writable.
    """
    for number in count(1):
        path = folder / f"{stem}-{number}{suffix}"
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            continue
        try:
            yield path
        except BaseException:
            path.unlink()
            raise
        return


def write_figure(path: Path, figure: Any, format: str = "png", math: bool = False, **savefig_options: Any) -> None:
    """Write a matplotlib figure atomically, as `write_whole` does.

    Args:
        path: the file.
        figure: the matplotlib figure.
        format: file format.
        math: whether texts may be formulas; if False, a `$` in a label is shown as `$`.
        savefig_options: further arguments of `Figure.savefig`.

    Raises:
        OSError: as `write_whole`.
    """
    from matplotlib.text import Text

    if not math:
        for text in figure.findobj(Text):
            if "$" in text.get_text() and not _MATPLOTLIB_POWER.fullmatch(text.get_text()):
                text.set_parse_math(False)
    data = io.BytesIO()
    with warnings.catch_warnings():
        for message in _IGNORED_WARNINGS:
            warnings.filterwarnings("ignore", message, UserWarning)
        figure.savefig(data, format=format, **savefig_options)
    write_whole(path, data.getvalue())


def save_picture(figure: Any, path: Path, **metadata: Any) -> None:
    """Write a matplotlib figure as PNG or SVG, marked as made by elman so that elman may overwrite it.

    Args:
        figure: the matplotlib figure.
        path: the file, with suffix .png or .svg.
        metadata: further metadata of the file.
    """
    kind = path.suffix[1:].lower()
    metadata |= {"Date": None, "Creator": MAKER} if kind == "svg" else {"Software": MAKER}
    write_figure(path, figure, kind, math=True, metadata=metadata)


# Matplotlib's own labels of a logarithmic axis.
_MATPLOTLIB_POWER = re.compile(r"\$\\mathdefault\{([-\u2212]?[\d.]+)?(\\times ?)?(10\^\{[-\u2212]?[\d.]+\})?\}\$")
# The user can do nothing about glyphs that the font lacks, which appear as boxes, or about long labels.
_IGNORED_WARNINGS = ("Glyph .* missing from", "Matplotlib currently does not support", "constrained_layout not appl")


def check_place(path: Path, suffixes: Sequence[str], prefix: str = "") -> None:
    """Check that a page or picture can be written: to a new path, or over a file that elman made.

    Args:
        path: the file.
        suffixes: allowed suffixes.
        prefix: prefix of the path in error messages, for example "--out ".

    Raises:
        BadInput: if it cannot be written.
    """
    if not path.is_dir() and path.suffix.lower() not in suffixes:
        raise BadInput(f"{prefix}{path}: expected a file name that ends with {' or '.join(suffixes)}")
    _check_folder(path, prefix)
    if os.path.lexists(path) and not _is_ours(path):
        raise BadInput(
            f"{prefix}{path}: expected a new name or a file written by elman, got another file; choose another name"
        )


def check_new(path: Path, prefix: str = "") -> None:
    """Check that a text or table can be written. It carries no mark of elman, so the path must be new.

    Args:
        path: the file.
        prefix: prefix of the path in error messages, for example "--out ".

    Raises:
        BadInput: if the path exists or its folder does not.
    """
    _check_folder(path, prefix)
    if os.path.lexists(path):
        raise BadInput(f"{prefix}{path}: expected a new name, got an existing file; choose another name")


def check_new_folder(path: Path, prefix: str = "") -> None:
    """Check that a folder can be written: the path is new or an empty folder.

    Args:
        path: the folder.
        prefix: prefix of the path in error messages, for example "--out ".

    Raises:
        BadInput: if the path exists and is not an empty folder.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        got = "a folder with files" if path.is_dir() else "a file"
        raise BadInput(f"{prefix}{path}: expected a new or empty folder, got {got}; choose another name")


@contextlib.contextmanager
def new_folder(path: Path, prefix: str = "") -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` once the body has filled it. If the body fails, it is removed.

    Args:
        path: the folder, new or empty.
        prefix: as for `check_new_folder`.

    Raises:
        BadInput: if `path` exists and is not an empty folder, or its parent does not exist.
        OSError: if the folder cannot be written; `filename` is `path`.
    """
    check_new_folder(path, prefix)
    _check_parent(path, prefix)
    temporary = _temporary_name(path)
    try:
        temporary.mkdir()
        yield temporary
        check_new_folder(path, prefix)  # check again: another process may have used it until now
        if path.exists():
            path.rmdir()  # Windows does not replace a folder
        temporary.rename(path)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None
        raise


def _check_folder(path: Path, prefix: str) -> None:
    if path.is_dir():
        raise BadInput(f"{prefix}{path}: expected the name of a file, got a folder")
    _check_parent(path, prefix)


def _check_parent(path: Path, prefix: str) -> None:
    if not path.parent.is_dir():
        raise BadInput(f"{prefix}{path}: the folder {path.parent} does not exist; create it first")


def _is_ours(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return _GENERATOR_MARK.search(file.read(_MARK_BYTES)) is not None
    except OSError:
        return False
