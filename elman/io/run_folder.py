"""Run folders: a trained model with everything needed to load it. Reading a run folder executes no code from it."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, Field

import elman
from elman.errors import BadInput, Failure, os_failure
from elman.io.checksums import CHECKSUMS, CheckedFolder
from elman.io.files import TEMPORARY, check_no_link, remove_leftovers, sync_folder
from elman.io.format import shell_path
from elman.io.schema import parsed, validated

if TYPE_CHECKING:
    from torch import Tensor, nn

MAX_CONFIG = 1 << 24  # bytes of config.json, which may name many thousand files of data
MAX_DEPTH = 100  # of lists and objects in each other in config.json
FORMAT = 1  # version of the folder format; raise it when older versions of elman cannot read the new format
LOCK = ".lock"
CONFIG, LAST, BEST, WEIGHTS = "config.json", "checkpoints/last.ckpt", "checkpoints/best.ckpt", "model.safetensors"
FOLDERS = ("checkpoints", "tensorboard")  # that training writes into
# Files of a process that died before it wrote config.json.
_LEFTOVER_FILE = re.compile(rf"{re.escape(LOCK)}|{TEMPORARY.pattern}")
# What makes a run another one. Other options may be changed by --resume, or have been added to elman since.
_TRAINING_IDENTITY = ("seed", "optimizer", "lr", "schedule", "clip")
_MAX_ATTEMPTS = 10  # to create a folder while other processes create and remove the same parents


Name = Annotated[str, Field(max_length=100)]


class _Config(BaseModel, strict=True, defer_build=True):
    """The fields of config.json that all tasks have."""

    format: int
    elman: Name
    task: Name
    data: dict[str, Any]
    model: dict[str, Any]
    options: dict[str, Any]
    training: dict[str, Any]
    # Added when training ends.
    scores: dict[str, dict[str, float]] | None = None
    baselines: dict[str, float] | None = None
    ended: dict[str, Any] | None = None
    diverged: Annotated[str, Field(max_length=10_000)] | None = None


class _InUse(BadInput):
    """Another process is training this run."""


class Run:
    """An open run folder.

    config.json       task, data, model, options and scores
    model.safetensors weights with the best validation loss so far
    metrics.csv       losses and learning rates, one row at a time
    checkpoints/      last.ckpt and best.ckpt, which hold all that resuming needs
    checksums.json    SHA-256 digests of these files, but for those that grow
    tensorboard/      the same curves for TensorBoard, if it is installed
    .lock             locked by the process that trains
    The task adds its own files: tokenizer, baseline, pictures.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.config = config
        self.files = CheckedFolder(path)
        self._written = set[str]()

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def last(self) -> Path:
        """Path of the checkpoint to resume from."""
        return self.path / LAST

    @property
    def best(self) -> Path:
        """Path of the checkpoint with the best validation loss."""
        return self.path / BEST

    @property
    def resume_command(self) -> str:
        """Shell command that resumes training."""
        return f"elman train {self.config['task']} --resume {shell_path(self.path)}"

    @property
    def is_unsaved(self) -> bool:
        """True if training ended before its first checkpoint, so that it can only start again."""
        return not (self.last.exists() or self.config.get("ended") or (self.path / WEIGHTS).exists())

    @property
    def identity(self) -> str:
        """Digest by which a checkpoint knows its run: the data, the model, and all that must not change on resuming."""
        training = {name: self.config["training"].get(name) for name in _TRAINING_IDENTITY}
        data = self.config["data"].get("sha256")
        # The batch is that of each process, whose number --resume may change.
        options = {name: value for name, value in self.config["options"].items() if name != "batch"}
        parts = [self.config["task"], data, self.config["model"], options, training]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def place(self, name: str) -> Path:
        """Return the path of a file or folder that training will write. It is removed if training fails early."""
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
        """Set keys of config.json."""
        self.config |= changes
        self.write({CONFIG: (json.dumps(self.config, indent=2, ensure_ascii=False) + "\n").encode()})

    def write(self, contents: Mapping[str, bytes]) -> None:
        """Write files, each atomically, and record their digests.

        Args:
            contents: their contents by name, in the order in which they are written.
        """
        for name in (*contents, CHECKSUMS):
            self.place(name)
        self.files.write(contents)

    def save_tensors(self, name: str, tensors: "Mapping[str, Tensor]") -> None:
        """Write tensors to `name`.safetensors."""
        self.write({f"{name}.safetensors": tensors_to_bytes(tensors)})

    def load_tensors(self, name: str) -> "dict[str, Tensor]":
        """Read `name`.safetensors.

        Raises:
            BadInput: if the file is missing, damaged or not safetensors.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self.path / f"{name}.safetensors"
        try:
            return load(self.files.read(path.name))
        except (SafetensorError, ValueError, KeyError) as error:
            raise BadInput(
                f"{path}: expected a complete safetensors file, got one that cannot be read: {error}"
            ) from None

    def load_model(self, model: "nn.Module") -> None:
        """Load the weights of this run into a model, which may be on the meta device.

        Raises:
            BadInput: if model.safetensors is missing, damaged or belongs to another model.
        """
        path = self.path / WEIGHTS
        if not path.exists() and self.config.get("ended"):
            raise BadInput(f"{path}: expected the weights of this run, but the file does not exist")
        if not path.exists() and self.config.get("diverged"):
            raise BadInput(
                f"{path}: does not exist, because training diverged before it saved a model: {self.config['diverged']}"
            )
        if not path.exists():
            raise BadInput(
                f"{path}: does not exist yet, because training has not saved a model; to resume: {self.resume_command}"
            )
        tensors = self.load_tensors("model")
        check_tensors(path, tensors, model.state_dict())
        model.load_state_dict(tensors, assign=True)


def check_tensors(path: Path, tensors: "Mapping[str, Tensor]", expected: "Mapping[str, Tensor]") -> None:
    """Check that the weights in a file are finite, and those of a model in names, shapes and dtypes.

    Args:
        path: the file.
        tensors: its weights.
        expected: weights of the model that config.json describes.

    Raises:
        BadInput: if they are not.
    """
    for name in sorted({*expected, *tensors}):
        if name not in expected:
            raise BadInput(
                f"{path}: expected no tensor {name} according to config.json, got one of {_spec(tensors[name])}"
            )
        wanted, got = _spec(expected[name]), _spec(tensors[name]) if name in tensors else "none"
        if wanted != got:
            raise BadInput(f"{path}: expected {name} of {wanted} according to config.json, got {got}")
        if not tensors[name].isfinite().all():
            raise BadInput(f"{path}: expected finite weights, got NaN or infinity in {name}")


def tensors_to_bytes(tensors: "Mapping[str, Tensor]") -> bytes:
    """Return tensors as the content of a safetensors file."""
    from safetensors.torch import save

    return save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})


def _spec(tensor: "Tensor") -> str:
    return f"shape {tuple(tensor.shape)} in {str(tensor.dtype).removeprefix('torch.')}"


def open_run(path: Path) -> Run:
    """Open the run in a folder.

    Raises:
        BadInput: if the folder is not a run, is damaged, or was written by a newer elman.
    """
    file = path / CONFIG
    if not path.exists():
        raise BadInput(f"{path}: expected a run folder, but it does not exist")
    if not path.is_dir() or not file.exists():
        raise BadInput(
            f"{path}: expected a run folder, got {'a folder' if path.is_dir() else 'a file'} without config.json"
        )
    try:
        config = parsed(CheckedFolder(path).read(CONFIG, MAX_CONFIG), MAX_DEPTH)
    except ValueError as error:
        raise BadInput(f"{file}: expected valid JSON: {error}") from None
    if isinstance(config, dict) and isinstance(config.get("format"), int) and config["format"] > FORMAT:
        raise BadInput(
            f"{file}: expected format {FORMAT} or older, got {config['format']!s:.20}, written by elman "
            f"{config.get('elman', '?')!s:.20}; this is elman {elman.__version__}: upgrade it to read this run"
        )
    try:
        validated(_Config, config)
    except ValueError as error:
        raise BadInput(f"{file}: {error}") from None
    return Run(path, config)


def check_free(out: Path | None) -> None:
    """Check that a new run can use this folder; None stands for an automatic name.

    Raises:
        BadInput: if the path is not a new or empty folder.
    """
    if (
        out is None
        or not out.exists()
        or (out.is_dir() and all(_LEFTOVER_FILE.fullmatch(file.name) for file in out.iterdir()))
    ):
        return
    what = "a run" if (out / CONFIG).exists() else "a folder with files" if out.is_dir() else "a file"
    hint = f", or resume it: elman train TASK --resume {shell_path(out)}" if what == "a run" else ""
    raise BadInput(f"--out {out}: expected a new or empty folder, got {what}; choose another name{hint}")


@contextmanager
def new_run(out: Path | None, config: dict[str, Any]) -> Iterator[Run]:
    """Create and lock the folder of a new run, which the body fills.

    If the body fails before the first checkpoint, the files of the run are removed, and so are the folders that were
    created for it, unless they contain other files.

    Args:
        out: the folder; None means the next free runs/TASK-N.
        config: content of config.json, which includes `task`.

    Raises:
        BadInput: if `out` exists, another process trains there, or the folder is not writable.
        Failure: if the disk is full or fails.
    """
    with ExitStack() as lock:
        path, folders = _claim(out, config["task"], lock)
        run = Run(path, {"format": FORMAT, "elman": elman.__version__} | config)
        remove_leftovers(path)
        try:
            run.update()
            run.place("checkpoints")  # Lightning creates the folder with the first checkpoint
            yield run
        except BaseException as error:
            if not run.last.exists():
                _remove(run, folders, lock)
            if isinstance(error, OSError) and _concerns(error, path):
                raise _unwritable(run, error, "--out") from None
            raise


@contextmanager
def resumed_run(path: Path) -> Iterator[Run]:
    """Open and lock an existing run, whose training the body resumes.

    Raises:
        BadInput: if the folder is not a run, another process trains it, or it is not writable.
        Failure: if the disk is full or fails.
    """
    open_run(path)  # raise before a lock file is created in a folder that is not a run
    for name in FOLDERS:
        check_no_link(path / name)
    with ExitStack() as lock:
        lock_folder(path, "--resume", lock)
        run = open_run(path)  # reread: another process may have trained it until now
        for folder in (path, run.last.parent):
            remove_leftovers(folder)
        try:
            yield run
        except OSError as error:
            if _concerns(error, path):
                raise _unwritable(run, error, "--resume") from None
            raise


def _claim(out: Path | None, task: str, lock: ExitStack) -> tuple[Path, list[Path]]:
    """Create and lock the folder of a new run for this process; return its path and the folders created."""
    if out is not None:
        check_free(out)
        try:
            folders = make_folder(out)
        except FileExistsError:
            folders = []
        _lock_new(out, folders, lock)
        check_free(out)  # check again: another process may have used it until now
        return out, folders
    for number in count(1):
        path = Path("runs") / f"{task}-{number}"
        with suppress(FileExistsError, _InUse):
            folders = make_folder(path)
            _lock_new(path, folders, lock)
            return path, folders
    raise AssertionError


def make_folder(path: Path) -> list[Path]:
    """Create a folder and its missing parents; return the created folders, the uppermost first.

    Raises:
        FileExistsError: if `path` exists.
        BadInput: if it cannot be created.
    """
    folders: list[Path] = []
    for attempt in count(1):
        try:
            for folder in reversed(path.parents):
                if not folder.is_dir():
                    with suppress(FileExistsError):  # another process has just created it
                        folder.mkdir()
                        folders.append(folder)
            path.mkdir()
        except FileExistsError:
            raise
        except OSError as error:
            if isinstance(error, FileNotFoundError) and attempt < _MAX_ATTEMPTS:
                continue  # another process, whose run failed, has removed a folder that it had created
            remove_empty(folders)
            raise os_failure(error, f"--out {path}: cannot be written: {error.strerror or error}") from None
        for folder in (*folders, path):
            sync_folder(folder.parent)
        return [*folders, path]
    raise AssertionError


def _lock_new(path: Path, folders: list[Path], stack: ExitStack) -> None:
    """Lock the folder of a new run. If locking fails, remove the folders that were created for it."""
    try:
        lock_folder(path, "--out", stack)
    except _InUse:
        raise
    except BadInput:
        with suppress(OSError):
            (path / LOCK).unlink()
        remove_empty(folders)
        raise


def lock_folder(path: Path, option: str, stack: ExitStack, use: str = "this run is being trained") -> None:
    """Lock a folder until the stack is closed. The operating system releases the lock if the process dies.

    Args:
        path: the folder.
        option: the option that names it, for error messages.
        stack: closes the lock.
        use: what another process that holds the lock does, for error messages.

    Raises:
        BadInput: if another process holds the lock, or the folder cannot be written to.
    """
    lock = FileLock(path / LOCK, blocking=False, fallback_to_soft=False)
    try:
        stack.enter_context(lock)
    except Timeout:
        raise _InUse(f"{option} {path}: {use} by another process; wait until that ends, or stop it") from None
    except (OSError, NotImplementedError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or error
        raise BadInput(f"{option} {path}: cannot write to or lock this folder: {reason}") from None


def _remove(run: Run, folders: list[Path], lock: ExitStack) -> None:
    """Remove the files of a run, and the created folders that are then empty."""
    run.clear()
    with suppress(OSError):  # Windows does not remove open files; the folder then stays
        (run.path / LOCK).unlink()  # removed while locked, so no other process can have locked it
    lock.close()
    remove_empty(folders)


def remove_empty(folders: list[Path]) -> None:
    """Remove the folders that are empty; the uppermost comes first in the list."""
    for folder in reversed(folders):
        with suppress(OSError):
            folder.rmdir()


def _concerns(error: OSError, path: Path) -> bool:
    """Return whether an error may concern a file of a run: it names a file in the run's folder, or none."""
    return not isinstance(error.filename, str) or path.absolute() in Path(error.filename).absolute().parents


def _unwritable(run: Run, error: OSError, option: str) -> BadInput | Failure:
    """Return the exception for an error while a run is written."""
    name = f"{Path(error.filename).name}: " if isinstance(error.filename, str) else ""
    hint = f"; to resume from the last checkpoint: {run.resume_command}" if run.last.exists() else ""
    return os_failure(error, f"{option} {run.path}: cannot be written: {name}{error.strerror or error}{hint}")
