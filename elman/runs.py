"""A run: a folder with a trained model that anyone can read, and nothing in it that runs code when it is read."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import elman
from elman.errors import BadInput
from elman.fields import parsed
from elman.files import read_bytes, write_whole

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT = 1  # of the folder; raise it when older versions could no longer read what is written
_KEYS = {"format": int, "elman": str, "task": str, "data": dict, "model": dict, "options": dict, "training": dict}
_LATER = {"scores": dict, "baselines": dict, "ended": dict}  # what a training that has ended adds


class Run:
    """An open run.

    config.json       what it is: task, data, model, options, scores
    model.safetensors the weights of the best validation so far
    metrics.csv       losses and rates, a row at a time
    checkpoints/      last.ckpt and best.ckpt: all that resuming needs
    tensorboard/      the same curves for TensorBoard
    and what the task adds: its tokenizer, its baseline, pictures.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.config = config

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.path / "checkpoints" / "last.ckpt"

    def update(self, **changes: Any) -> None:
        """Put these keys into config.json."""
        self.config |= changes
        write_whole(self.path / "config.json", json.dumps(self.config, indent=2, ensure_ascii=False) + "\n")

    def save_tensors(self, name: str, tensors: "Mapping[str, Tensor]") -> None:
        """Write `name`.safetensors."""
        from safetensors.torch import save

        data = save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
        write_whole(self.path / f"{name}.safetensors", data)

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
        if not path.exists() and self.last.exists():
            raise BadInput(f"{path}: not there yet; training has not saved a model. Go on with --resume {self.path}")
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


def free_path(out: Path | None, stem: str) -> Path:
    """Where a new run goes: `out` if nothing is there, or else the next free runs/stem-N.

    Raises:
        BadInput: if there is something at `out`.
    """
    if out is None:
        numbers = (Path("runs") / f"{stem}-{n}" for n in range(1, 1_000_000))
        return next(path for path in numbers if not path.exists())
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        what = "a run" if (out / "config.json").exists() else "a folder with files" if out.is_dir() else "a file"
        more = f", or go on with it: --resume {out}" if what == "a run" else ""
        raise BadInput(f"--out {out}: expected a new or empty folder, got {what}; choose another name{more}")
    return out


@contextmanager
def new_run(path: Path, config: dict[str, Any]) -> Iterator[Run]:
    """Make a run's folder, to be filled in the body; if the body fails before anything is worth keeping, that is before
    there is a checkpoint, all that was made is taken away again.

    Raises:
        BadInput: if it cannot be written.
    """
    run = Run(path, {"format": FORMAT, "elman": elman.__version__} | config)
    made = next((folder for folder in [*reversed(path.parents), path] if not folder.exists()), None)
    try:
        (path / "checkpoints").mkdir(parents=True)
        run.update()
        yield run
    except BaseException as error:
        if not run.last.exists():
            _take_away(path, made)
        if isinstance(error, OSError):
            raise BadInput(f"--out {path}: cannot be written: {error.strerror or error}") from None
        raise


def _take_away(path: Path, made: Path | None) -> None:
    """Remove what a run left in a folder, and the folders that were made for it."""
    if made is not None:
        shutil.rmtree(made, ignore_errors=True)
    elif path.is_dir():
        for file in path.iterdir():
            shutil.rmtree(file, ignore_errors=True) if file.is_dir() else file.unlink()
