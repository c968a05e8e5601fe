"""A run: a folder with a trained model that anyone can read, and nothing in it that runs code when it is read."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

import elman
from elman.errors import BadInput, Failure, os_failure
from elman.io.files import read_bytes, write_whole
from elman.io.format import shell_path
from elman.io.json_fields import parsed

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT = 1  # of the folder; raise it when older versions could no longer read what is written
_KEYS = {"format": int, "elman": str, "task": str, "data": dict, "model": dict, "options": dict, "training": dict}
_LATER = {"scores": dict, "baselines": dict, "ended": dict}  # what a training that has ended adds
LOCK = ".lock"
_LEFT_OVER = re.compile(r"\.lock|\.config\.json\.\d+")  # by a process that died before it had written config.json
_ATTEMPTS = 10  # to make a folder while other trainings make and remove the same parents


class _InUse(BadInput):
    """Another process trains this run."""


class Run:
    """An open run.

    config.json       what it is: task, data, model, options, scores
    model.safetensors the weights of the best validation so far
    metrics.csv       losses and rates, a row at a time
    checkpoints/      last.ckpt and best.ckpt: all that resuming needs
    tensorboard/      the same curves for TensorBoard, if it is installed
    .lock             locked by the process that trains
    and what the task adds: its tokenizer, its baseline, pictures.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.config = config
        self._written = set[str]()

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint of the best validation."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def resume_command(self) -> str:
        """The command that continues its training, for a shell."""
        return f"elman train {self.config['task']} --resume {shell_path(self.path)}"

    @property
    def is_unsaved(self) -> bool:
        """Whether its training died before the first checkpoint, so that it can only start again."""
        return not (self.last.exists() or self.config.get("ended") or (self.path / "model.safetensors").exists())

    def place(self, name: str) -> Path:
        """The path of a file or folder that the training writes: removed if it fails before its first checkpoint."""
        self._written.add(name)
        return self.path / name

    def clear(self) -> None:
        """Remove what this training has written, and nothing else."""
        for path in (self.path / name for name in self._written):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()

    def update(self, **changes: Any) -> None:
        """Put these keys into config.json."""
        self.config |= changes
        write_whole(self.place("config.json"), json.dumps(self.config, indent=2, ensure_ascii=False) + "\n")

    def save_tensors(self, name: str, tensors: "Mapping[str, Tensor]") -> None:
        """Write `name`.safetensors."""
        from safetensors.torch import save

        data = save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
        write_whole(self.place(f"{name}.safetensors"), data)

    def load_tensors(self, name: str) -> "dict[str, Tensor]":
        """Read `name`.safetensors.

        Raises:
            BadInput: if it is missing, cut short, or something else.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self.path / f"{name}.safetensors"
        try:
            return load(read_bytes(path))
        except (SafetensorError, ValueError, KeyError) as error:
            raise BadInput(f"{path}: expected a whole safetensors file, got one that cannot be read: {error}") from None

    def load_model(self, model: "nn.Module") -> None:
        """Give a model (it may be on meta) the weights of this run.

        Raises:
            BadInput: if model.safetensors is missing, damaged, or of another model.
        """
        path = self.path / "model.safetensors"
        if not path.exists() and self.config.get("ended"):
            raise BadInput(f"{path}: expected the weights of this run, which has ended; the file is gone")
        if not path.exists():
            raise BadInput(f"{path}: not there yet; training has not saved a model. To go on: {self.resume_command}")
        tensors, expected = self.load_tensors("model"), model.state_dict()
        for name in sorted(expected | dict.fromkeys(tensors)):
            if name not in expected:
                raise BadInput(f"{path}: expected no tensor {name} by config.json, got one of {_told(tensors[name])}")
            wanted, got = _told(expected[name]), _told(tensors[name]) if name in tensors else "none"
            if wanted != got:
                raise BadInput(f"{path}: expected {name} of {wanted} by config.json, got {got}")
            if not tensors[name].isfinite().all():
                raise BadInput(f"{path}: expected finite weights, got others in {name}")
        model.load_state_dict(tensors, assign=True)


def _told(tensor: "Tensor") -> str:
    return f"shape {tuple(tensor.shape)} in {str(tensor.dtype).removeprefix('torch.')}"


def open_run(path: Path) -> Run:
    """Open the run in a folder.

    Raises:
        BadInput: if it is not one, is damaged, or was written by a newer elman.
    """
    file = path / "config.json"
    if not path.exists():
        raise BadInput(f"{path}: expected a run's folder, found nothing of that name")
    if not path.is_dir() or not file.exists():
        raise BadInput(
            f"{path}: expected a run's folder, got {'one' if path.is_dir() else 'a file'} without config.json"
        )
    try:
        config = parsed(read_bytes(file))
    except ValueError as error:
        raise BadInput(f"{file}: expected JSON, got something else: {error}") from None
    if not isinstance(config, dict):
        raise BadInput(f"{file}: expected a JSON object, got {type(config).__name__}")
    if isinstance(config.get("format"), int) and config["format"] > FORMAT:
        raise BadInput(
            f"{file}: expected format {FORMAT} or older, got {config['format']}, written by elman "
            f"{config.get('elman', '?')}; this is elman {elman.__version__}: upgrade it to read this run"
        )
    for key, kind in _KEYS.items():
        if not isinstance(config.get(key), kind):
            raise BadInput(f"{file}: expected {key!r} to be {kind.__name__}, got {config.get(key)!r:.60}")
    for key, kind in _LATER.items():
        if not isinstance(config.get(key), kind | None):
            raise BadInput(f"{file}: expected {key!r} to be {kind.__name__}, got {config[key]!r:.60}")
    return Run(path, config)


def check_free(out: Path | None) -> None:
    """Check that a new run can go to this folder; None: to one of its own.

    Raises:
        BadInput: if there is something already.
    """
    if (
        out is None
        or not out.exists()
        or (out.is_dir() and all(_LEFT_OVER.fullmatch(file.name) for file in out.iterdir()))
    ):
        return
    what = "a run" if (out / "config.json").exists() else "a folder with files" if out.is_dir() else "a file"
    more = f", or go on with it: --resume {shell_path(out)}" if what == "a run" else ""
    raise BadInput(f"--out {out}: expected a new or empty folder, got {what}; choose another name{more}")


@contextmanager
def new_run(out: Path | None, config: dict[str, Any]) -> Iterator[Run]:
    """Make a run's folder and lock it; it is filled in the body.

    If the body fails before there is a checkpoint, what the run has written is removed, with the folders that were made
    for it, unless there is something else in them.

    Args:
        out: the folder; None: the next free runs/TASK-N.
        config: for config.json; `task` among it.

    Raises:
        BadInput: if there is something at `out`, if another process trains there, if it cannot be written.
        Failure: if the disk is full or fails.
    """
    with ExitStack() as lock:
        path, folders = _claim(out, config["task"], lock)
        run = Run(path, {"format": FORMAT, "elman": elman.__version__} | config)
        try:
            run.update()
            run.place("checkpoints")  # made with the first of them
            yield run
        except BaseException as error:
            if not run.last.exists():
                _remove(run, folders, lock)
            if isinstance(error, OSError) and _is_of(error, path):
                raise _unwritable(run, error, "--out") from None
            raise


@contextmanager
def resumed_run(path: Path) -> Iterator[Run]:
    """Open and lock the run in a folder, to continue its training in the body.

    Raises:
        BadInput: if it is no run, if another process trains it, if it cannot be written.
        Failure: if the disk is full or fails.
    """
    open_run(path)  # a folder that is no run stays as it is
    with ExitStack() as lock:
        _lock(path, "--resume", lock)
        run = open_run(path)  # again: another process may have trained it until now
        try:
            yield run
        except OSError as error:
            if _is_of(error, path):
                raise _unwritable(run, error, "--resume") from None
            raise


def _claim(out: Path | None, task: str, lock: ExitStack) -> tuple[Path, list[Path]]:
    """Make and lock the folder of a new run, which no other process gets too; return the folders that were made."""
    if out is not None:
        check_free(out)
        try:
            folders = _make(out)
        except FileExistsError:
            folders = []
        _lock_new(out, folders, lock)
        check_free(out)  # again: another process may have been here until now
        return out, folders
    for number in count(1):
        path = Path("runs") / f"{task}-{number}"
        with suppress(FileExistsError, _InUse):
            folders = _make(path)
            _lock_new(path, folders, lock)
            return path, folders
    raise AssertionError


def _make(path: Path) -> list[Path]:
    """Make a folder, and those above it that are missing; return those that were made, the uppermost first.

    Raises:
        FileExistsError: if there is something at `path`.
        BadInput: if it cannot be made.
    """
    folders: list[Path] = []
    for attempt in count(1):
        try:
            for folder in reversed(path.parents):
                if not folder.is_dir():
                    with suppress(FileExistsError):  # another process was quicker
                        folder.mkdir()
                        folders.append(folder)
            path.mkdir()
        except FileExistsError:
            raise
        except OSError as error:
            if isinstance(error, FileNotFoundError) and attempt < _ATTEMPTS:
                continue  # another process, which made a folder for a run that has failed, has removed it again
            _remove_empty(folders)
            raise os_failure(error, f"--out {path}: cannot be written: {error.strerror or error}") from None
        return [*folders, path]
    raise AssertionError


def _lock_new(path: Path, folders: list[Path], stack: ExitStack) -> None:
    """Lock the folder of a new run; where nothing can be locked, remove the folders that were made for it."""
    try:
        _lock(path, "--out", stack)
    except _InUse:
        raise
    except BadInput:
        with suppress(OSError):
            (path / LOCK).unlink()
        _remove_empty(folders)
        raise


def _lock(path: Path, option: str, stack: ExitStack) -> None:
    """Lock a run's folder until the stack is closed; the operating system unlocks it when the process dies."""
    lock = FileLock(path / LOCK, blocking=False, fallback_to_soft=False)
    try:
        stack.enter_context(lock)
    except Timeout:
        raise _InUse(
            f"{option} {path}: expected a run that no other process trains, got one that is being trained; "
            "wait until that training ends, or stop it"
        ) from None
    except (OSError, NotImplementedError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or error
        raise BadInput(f"{option} {path}: expected a folder to write to and to lock, got: {reason}") from None


def _remove(run: Run, folders: list[Path], lock: ExitStack) -> None:
    """Remove what a run has written, and those of the folders that are empty then."""
    run.clear()
    with suppress(OSError):  # Windows removes no file that is open; then the folder stays
        (run.path / LOCK).unlink()  # still locked: no other process can have locked it
    lock.close()
    _remove_empty(folders)


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders, the uppermost first, as far as they are empty."""
    for folder in reversed(folders):
        with suppress(OSError):
            folder.rmdir()


def _is_of(error: OSError, path: Path) -> bool:
    """Whether an error is one of a run's own files, as far as it names a file."""
    return not isinstance(error.filename, str) or path.absolute() in Path(error.filename).absolute().parents


def _unwritable(run: Run, error: OSError, option: str) -> BadInput | Failure:
    """The exception for an error while a run is written."""
    name = f"{Path(error.filename).name}: " if isinstance(error.filename, str) else ""
    more = f"; to go on from the last checkpoint: {run.resume_command}" if run.last.exists() else ""
    return os_failure(error, f"{option} {run.path}: cannot be written: {name}{error.strerror or error}{more}")
