"""SHA-256 digests of the files of a run, by which damaged files are recognized when they are read."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from elman.errors import BadInput
from elman.io.files import check_no_link, opened, read_bytes, sync_folder, write_whole
from elman.io.schema import parsed, validated

CHECKSUMS = "checksums.json"
_ATTEMPTS = 3  # at reading a file that a training process may be replacing


class CheckedFolder:
    """A folder whose files are written with their digests, and checked when they are read.

    The digests are in checksums.json, and not in the files, so that other programs can read these; and not in
    config.json, which is checked too. A new digest is recorded beside the old one before the file is replaced: if the
    process is killed between the two, the file has one of the digests. Files without a digest are not checked: those of
    runs of earlier versions, and those that grow during the training.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written: dict[str, str] = {}  # the digests of files that this object has written completely

    def write(self, contents: Mapping[str, bytes]) -> None:
        """Write files, each atomically.

        Args:
            contents: their contents by name, relative to the folder, in the order in which they are written.

        Raises:
            BadInput: if a subfolder is a symbolic link; if checksums.json is damaged.
            OSError: if a file cannot be written.
        """
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        is_new = not (self.path / CHECKSUMS).exists()
        if not is_new:
            self._record(digests)
        for name, data in contents.items():
            path = self.path / name
            if path.parent != self.path:
                check_no_link(path.parent)
                if not path.parent.exists():
                    path.parent.mkdir(exist_ok=True)
                    sync_folder(self.path)
            write_whole(path, data)
            self._written[name] = digests[name]
        if is_new:  # an empty folder gets config.json first, by which others see that it is a run
            self._record(digests)

    def _record(self, digests: Mapping[str, str]) -> None:
        """Record digests of files that are written next, beside those that the files may have now."""
        recorded = self._recorded()
        changed = dict(recorded)
        for name, digest in digests.items():
            old = recorded.get(name, [])
            if old[-1:] == [self._written.get(name)]:
                old = old[-1:]
            changed[name] = [*(other for other in old if other != digest), digest]
        if changed != recorded:
            write_whole(self.path / CHECKSUMS, json.dumps(changed, indent=2) + "\n")

    def _recorded(self) -> dict[str, list[str]]:
        """Return the digests that each file may have."""
        path = self.path / CHECKSUMS
        if not path.exists():
            return {}
        try:
            return validated(dict[str, list[str]], parsed(read_bytes(path)))
        except ValueError as error:
            raise BadInput(
                f"{path}: expected the SHA-256 digests of files: {error}; delete it to use the run without checks"
            ) from None

    def read(self, name: str, most: int | None = None) -> bytes:
        """Read a file.

        Args:
            name: its name.
            most: the largest size in bytes; None means any.

        Raises:
            BadInput: if it cannot be read, or is not as elman wrote it.
        """
        for _ in range(_ATTEMPTS):
            data = read_bytes(self.path / name, most)
            if self._has_digest(hashlib.sha256(data).hexdigest(), name):
                return data
        raise self._damaged(name)

    def check(self, name: str, *copied: str) -> Path:
        """Check a file without holding all of it in memory.

        Args:
            name: its name.
            copied: names of other files, of which it may be a copy.

        Returns:
            The path of the file.

        Raises:
            BadInput: if it cannot be read, or is not as elman wrote it.
        """
        path = self.path / name
        for _ in range(_ATTEMPTS):
            with opened(path) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
            if self._has_digest(digest, name, *copied):
                return path
        raise self._damaged(name)

    def _has_digest(self, digest: str, *names: str) -> bool:
        """Return whether a file has a digest that is recorded for one of the names, or none is for the first."""
        recorded = self._recorded()
        return names[0] not in recorded or any(digest in recorded.get(name, []) for name in names)

    def _damaged(self, name: str) -> BadInput:
        return BadInput(
            f"{self.path / name}: expected the content that elman wrote, by its SHA-256 digest in {CHECKSUMS}; got "
            "another: the file is damaged, changed or of another run; restore it, or delete "
            f"{CHECKSUMS} if the change is on purpose"
        )
