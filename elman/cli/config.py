"""Reads and writes training configurations: YAML, TOML, JSON, and the config.json of a run."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, Strict, create_model

from elman.errors import BadInput
from elman.io.files import STDIN, read_text
from elman.io.schema import parsed, validated
from elman.options import listed
from elman.training.options import TrainingOptions


def read(path: Path, task: str, module: ModuleType, has_data: bool = False) -> dict[str, Any]:
    """Read a configuration.

    Args:
        path: path of the file, or of the folder of a run, whose config.json is read.
        task: the task to be trained.
        module: the options module of the task.
        has_data: whether data are also passed on the command line.

    Returns:
        The options by field name, and "data" and "out".

    Raises:
        BadInput: if the file cannot be read, is for another task, or has an unknown key or an invalid value.
    """
    from elman.io.checksums import CheckedFolder
    from elman.io.run_folder import CONFIG

    if (path / CONFIG).exists():
        path = path / CONFIG
    if path.name == CONFIG and path.exists():
        CheckedFolder(path.parent).check(CONFIG)
    where, values = f"--config {path}", _parsed(path)
    if values.get("task", task) != task:
        raise BadInput(f"{where}: task: expected {task}, got {values['task']!r:.60}")
    is_run = isinstance(values.get("options"), dict) and isinstance(values.get("training"), dict)
    try:
        settings = _of_run(values, has_data) if is_run else {k.replace("-", "_"): v for k, v in values.items()}
        config = validated(_model(task, module), settings)
    except ValueError as error:
        raise BadInput(f"{where}: {error}") from None
    # Options that the version of elman of a run did not have get their defaults.
    return config.model_dump(exclude={"task"}, exclude_unset=not is_run)


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
    values |= options.model_dump(by_alias=True) | training.model_dump()
    values |= {"out": str(out)} if out else {}
    document: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return document


def schema(task: str, module: ModuleType) -> str:
    """Return a JSON schema of the files that `read` takes, by which editors complete and check them.

    Args:
        task: the name of the task.
        module: the module of the task's options.
    """
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(dialect | _model(task, module).model_json_schema(), indent=2) + "\n"


def _model(task: str, module: ModuleType) -> type[BaseModel]:
    """Return the pydantic model of the configuration files of a task."""
    path: Any = Annotated[Path, Strict(False)]  # files have texts
    paths: Any = Annotated[
        list[path] | None,
        BeforeValidator(listed, json_schema_input_type=path | list[path] | None),
        Field(description="Files to train on."),
    ]
    fields: dict[str, Any] = {
        "task": (Literal[task], task),
        "data": (paths, None),
        "out": (Annotated[path | None, Field(description="Run folder, new or empty.")], None),
    }
    return create_model(f"elman train {task}", __base__=(TrainingOptions, module.OPTIONS), **fields)


def _parsed(path: Path) -> dict[str, Any]:
    """Parse a file according to its suffix; return its top-level mapping."""
    parsers: dict[str, Callable[[str], Any]] = {
        ".yaml": _parsed_yaml, ".yml": _parsed_yaml, ".toml": _parsed_toml, ".json": parsed
    }  # fmt: skip
    suffix = ".yaml" if path == STDIN else path.suffix.lower()
    if suffix not in parsers:
        raise BadInput(f"--config {path}: expected a file name that ends with {', '.join(parsers)}, or a run folder")
    try:
        values = parsers[suffix](read_text(path))
    except RecursionError:
        raise BadInput(f"--config {path}: expected options and values, got lists nested too deeply") from None
    except ValueError as error:
        raise BadInput(f"--config {path}: expected valid {suffix[1:].upper()}: {error}") from None
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise BadInput(f"--config {path}: expected a mapping of option names to values, got {type(values).__name__}")
    return values


def _parsed_yaml(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Reads 1e-3 as a number, as YAML 1.2 says and PyYAML, of YAML 1.1, does not; refuses aliases.

        Aliases of aliases make a few lines stand for billions of values.
        """

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("expected no alias, got one: * and a name")
            return super().compose_node(parent, index)

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))
    try:
        return yaml.load(text, Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _parsed_toml(text: str) -> Any:
    import tomllib

    return tomllib.loads(text)


def _of_run(config: Mapping[str, Any], has_data: bool) -> dict[str, Any]:
    """Return the options and data of a run."""
    data = config["data"] if isinstance(config.get("data"), dict) else {}
    options: dict[str, Any] = config["options"] | config["training"]
    if "encoding" in data:  # the first versions stored one file and its encoding there
        options = {"encoding": data["encoding"]} | options
    files = data["files"] if "files" in data else [data["file"]] if data.get("file") else []
    if files is None and not has_data:
        got = "a run that was trained in Python or on standard input"
        raise ValueError(f"data: expected files, got {got}; pass the files as DATA")
    return options | {"data": files or None}
