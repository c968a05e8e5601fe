"""Configurations of trainings: in YAML, TOML and JSON, and the config.json of a run."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from types import ModuleType
from typing import Any

from elman.errors import BadInput
from elman.io.files import STDIN, read_text
from elman.io.json_fields import parsed
from elman.options import PARTS, checked, restore_options
from elman.training.options import TrainingOptions

BESIDE = ("task", "data", "out")  # keys that are no options


def read(path: Path, task: str, module: ModuleType, has_data: bool = False) -> dict[str, Any]:
    """The options in a file, by the names of their fields; "data" and "out" may be among them.

    Args:
        path: of the file, or of the folder of a run, whose config.json is read.
        task: the task that it has to be for.
        module: of the options of the task.
        has_data: whether data are given besides.

    Raises:
        BadInput: for a file that cannot be read, another task, an unknown key, and a wrong value.
    """
    if (path / "config.json").exists():
        path = path / "config.json"
    where, values = f"--config {path}", _parsed(path)
    if values.get("task", task) != task:
        raise BadInput(f"{where}: task: expected {task}, got {values['task']!r}")
    try:
        if isinstance(values.get("options"), dict) and isinstance(values.get("training"), dict):
            return _of_run(values, module, has_data)
        return _of_options(where, values, module)
    except TypeError as error:
        raise BadInput(str(error)) from None
    except ValueError as error:
        raise BadInput(str(error) if str(error).startswith(where) else f"{where}: {error}") from None


def text(task: str, data: list[Path] | None, options: Any, training: TrainingOptions, out: Path | None) -> str:
    """A configuration as YAML, which `read` reads."""
    import yaml

    values = {"task": task, "data": [str(path) for path in data] if data else None}
    values |= {name.strip("_"): value for name, value in (asdict(options) | asdict(training)).items()}
    values |= {"out": str(out)} if out else {}
    written: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return written


def _parsed(path: Path) -> dict[str, Any]:
    """The object in a file."""
    parsers: dict[str, Callable[[str], Any]] = {
        ".yaml": _parsed_yaml, ".yml": _parsed_yaml, ".toml": _parsed_toml, ".json": parsed
    }  # fmt: skip
    suffix = ".yaml" if path == STDIN else path.suffix.lower()
    if suffix not in parsers:
        raise BadInput(f"--config {path}: expected a name that ends with {', '.join(parsers)}, or the folder of a run")
    try:
        values = parsers[suffix](read_text(path))
    except ValueError as error:
        raise BadInput(f"--config {path}: expected {suffix[1:].upper()}, got something else: {error}") from None
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise BadInput(f"--config {path}: expected names and values of options, got {type(values).__name__}")
    return values


def _parsed_yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _parsed_toml(text: str) -> Any:
    import tomllib

    return tomllib.loads(text)


def _of_options(where: str, values: Mapping[str, Any], module: ModuleType) -> dict[str, Any]:
    """Options by name, as on the command line, with - or _ in names."""
    names = {field.name.strip("_"): field.name for kind in (module.OPTIONS, TrainingOptions) for field in fields(kind)}
    spelled = {name: name.replace("-", "_") for name in values if name not in BESIDE}
    given = {names.get(plain, plain): values[name] for name, plain in spelled.items()}
    given |= {name: _texts(name, given[name]) for name in PARTS if name in given and name in names}
    own = [field.name for field in fields(TrainingOptions)]
    training = checked(TrainingOptions, where, {name: value for name, value in given.items() if name in own})
    rest = {name: value for name, value in given.items() if name not in own}
    options = checked(module.OPTIONS, where, rest, (*own, *BESIDE))
    found = {name: getattr(training if name in own else options, name) for name in given}
    return found | _places(values)


def _places(values: Mapping[str, Any]) -> dict[str, Any]:
    """Data and run folder, as paths."""
    data, out = _texts("data", values.get("data")), values.get("out")
    if not isinstance(out, str | None):
        raise ValueError(f"out: expected a path, got {out!r:.40}")
    return ({"data": [Path(path) for path in data]} if data else {}) | ({"out": Path(out)} if out else {})


def _texts(name: str, value: Any) -> list[str] | None:
    """Paths, or one."""
    found = [value] if isinstance(value, str) else value
    if found is not None and not (isinstance(found, list) and all(isinstance(path, str) for path in found)):
        raise ValueError(f"{name}: expected a path, or a list of paths, got {value!r:.40}")
    return found


def _of_run(config: Mapping[str, Any], module: ModuleType, has_data: bool) -> dict[str, Any]:
    """Options, training options and data of a run; options that its version did not have yet have their defaults."""
    data = config["data"] if isinstance(config.get("data"), dict) else {}
    options = dict(config["options"])
    if "encoding" in data:  # the first versions had one file, and its encoding, there
        options.setdefault("encoding", data["encoding"])
    files = data["files"] if "files" in data else [data["file"]] if data.get("file") else []
    if files is None and not has_data:
        got = "a run that was trained in Python or on standard input"
        raise ValueError(f"data: expected files, got {got}; name DATA")
    values = asdict(restore_options(module.OPTIONS, options)) | asdict(
        restore_options(TrainingOptions, config["training"])
    )
    return values | _places({"data": files})
