"""Reads and writes training configurations: YAML, TOML, JSON, and the config.json of a run."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from types import ModuleType
from typing import Any

from elman.errors import BadInput
from elman.io.files import STDIN, read_text
from elman.io.json_fields import parsed
from elman.options import PARTS, checked, json_schema, restore_options
from elman.training.options import TrainingOptions

OTHER_KEYS = ("task", "data", "out")  # allowed keys that are not options


def read(path: Path, task: str, module: ModuleType, has_data: bool = False) -> dict[str, Any]:
    """Read a configuration.

    Args:
        path: path of the file, or of the folder of a run, whose config.json is read.
        task: the task to be trained.
        module: the options module of the task.
        has_data: whether data are also passed on the command line.

    Returns:
        The options by field name, and "data" and "out" if the file has them.

    Raises:
        BadInput: if the file cannot be read, is for another task, or has an unknown key or an invalid value.
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
    """Write a configuration as YAML, which `read` can read.

    Args:
        task: name of the task.
        data: paths of the data.
        options: options of the task.
        training: training options.
        out: folder of the run.
    """
    import yaml

    values = {"task": task, "data": [str(path) for path in data] if data else None}
    values |= {name.strip("_"): value for name, value in (asdict(options) | asdict(training)).items()}
    values |= {"out": str(out)} if out else {}
    document: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return document


def schema(task: str, module: ModuleType) -> str:
    """Return a JSON schema of the files that `read` takes, by which editors complete and check them.

    Args:
        task: the name of the task.
        module: the module of the task's options.
    """
    options = {
        name.strip("_"): field
        for kind in (module.OPTIONS, TrainingOptions)
        for name, field in json_schema(kind).items()
    }
    paths = {"type": ["string", "array", "null"], "items": {"type": "string"}}
    described = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"elman train {task}",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "task": {"const": task},
            "data": paths | {"description": "Files to train on."},
            "out": {"type": "string", "description": "Run folder, new or empty."},
            **options,
        },
    }
    return json.dumps(described, indent=2) + "\n"


def _parsed(path: Path) -> dict[str, Any]:
    """Parse a file according to its suffix; return its top-level mapping."""
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
    """Return the options of a configuration file, whose names may be spelled with - or _."""
    names = {field.name.strip("_"): field.name for kind in (module.OPTIONS, TrainingOptions) for field in fields(kind)}
    field_names = {name: name.replace("-", "_") for name in values if name not in OTHER_KEYS}
    settings = {names.get(field_name, field_name): values[name] for name, field_name in field_names.items()}
    settings |= {name: _texts(name, settings[name]) for name in PARTS if name in settings and name in names}
    training_names = [field.name for field in fields(TrainingOptions)]
    training_settings = {name: value for name, value in settings.items() if name in training_names}
    task_settings = {name: value for name, value in settings.items() if name not in training_names}
    training = checked(TrainingOptions, where, training_settings)
    options = checked(module.OPTIONS, where, task_settings, (*training_names, *OTHER_KEYS))
    checked_settings = {name: getattr(training if name in training_names else options, name) for name in settings}
    return checked_settings | _places(values)


def _places(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return "data" and "out" as paths, if they are set."""
    data, out = _texts("data", values.get("data")), values.get("out")
    if not isinstance(out, str | None):
        raise ValueError(f"out: expected a path, got {out!r:.40}")
    return ({"data": [Path(path) for path in data]} if data else {}) | ({"out": Path(out)} if out else {})


def _texts(name: str, value: Any) -> list[str] | None:
    """Return a text or a list of texts as a list; None remains None."""
    texts = [value] if isinstance(value, str) else value
    if texts is not None and not (isinstance(texts, list) and all(isinstance(path, str) for path in texts)):
        raise ValueError(f"{name}: expected a path, or a list of paths, got {value!r:.40}")
    return texts


def _of_run(config: Mapping[str, Any], module: ModuleType, has_data: bool) -> dict[str, Any]:
    """Return the options and data of a run; options that its version of elman did not have get their defaults."""
    data = config["data"] if isinstance(config.get("data"), dict) else {}
    options = dict(config["options"])
    if "encoding" in data:  # the first versions stored one file and its encoding there
        options.setdefault("encoding", data["encoding"])
    files = data["files"] if "files" in data else [data["file"]] if data.get("file") else []
    if files is None and not has_data:
        got = "a run that was trained in Python or on standard input"
        raise ValueError(f"data: expected files, got {got}; name DATA")
    values = asdict(restore_options(module.OPTIONS, options)) | asdict(
        restore_options(TrainingOptions, config["training"])
    )
    return values | _places({"data": files})
