"""Uploaded files, in a private folder for the time of a request."""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

MAX_NAME = 60  # characters
_NOT_IN_NAMES = re.compile(r"[^\w.-]")


class Uploads:
    """Files with contents and names from strangers.

    Args:
        folder: a private folder for their contents.
        files: the files, and their names, of which only letters, digits and `._-` of the last part are used.
    """

    def __init__(self, folder: Path, files: Sequence[tuple[IO[bytes], str | None]]) -> None:
        self._folder, self.paths = folder, list[Path]()
        for number, (content, name) in enumerate(files):
            path = folder / str(number) / safe_name(name)
            path.parent.mkdir()
            with path.open("xb") as file:
                shutil.copyfileobj(content, file)
            self.paths.append(path)

    def without_folder(self, text: str) -> str:
        """Return a text with the names of the files instead of their paths."""
        return re.sub(rf"{re.escape(str(self._folder))}[/\\]\d+[/\\]", "", text)

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row with the names of the files instead of their paths."""
        return {name: self.without_folder(value) if isinstance(value, str) else value for name, value in row.items()}


@contextmanager
def private_folder() -> Iterator[Path]:
    """Yield a folder that only this user can read. It is removed at the end."""
    with TemporaryDirectory(prefix="elman-serve-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def safe_name(name: str | None) -> str:
    r"""Return a name for a file that is neither a path nor hidden.

    >>> safe_name("../../etc/pass wd"), safe_name("C:\\a\\.b.png"), safe_name("..")
    ('pass_wd', 'b.png', 'file')
    """
    last = re.split(r"[/\\]", name or "")[-1]
    return _NOT_IN_NAMES.sub("_", last)[-MAX_NAME:].lstrip(".-") or "file"
