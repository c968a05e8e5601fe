"""Search spaces: which options are searched, and their values. Imports nothing heavy."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, get_type_hints

from elman.errors import BadInput
from elman.io.names import meant, perhaps
from elman.options import PARTS, Options, checked, flag, names_of, value_of, without_none
from elman.tasks.overrides import DECODING_NAMES
from elman.tasks.overrides import NAMES as READING
from elman.tasks.registry import training_of
from elman.training.options import TrainingOptions

# Options that every trial has in common: another value would change what the validation loss measures, or nothing.
COMMON = (
    *READING, *DECODING_NAMES, *PARTS, "group", "channels", "text_column", "source_column", "target_column", "stream",
    "shuffle_rows", "seed", "flow_every", "on_nan", "minutes", "accelerator", "devices", "nodes", "strategy",
)  # fmt: skip
DIGITS = 4  # significant digits of numbers that are drawn from a range


@dataclass(frozen=True)
class Interval:
    """All numbers from `low` to `high`.

    Attributes:
        low: the smallest number.
        high: the largest number.
        is_log: whether the logarithm is uniform, not the number.
        is_whole: whether numbers are integers.
    """

    low: float
    high: float
    is_log: bool
    is_whole: bool

    def __str__(self) -> str:
        return f"{option_text(self.low)}..{option_text(self.high)}{':log' if self.is_log else ''}"

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def rounded(self, value: float) -> float:
        """Round a number to `DIGITS` significant digits, within the interval."""
        if self.is_whole:
            return int(value)
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Choices:
    """Some values."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return ",".join(map(option_text, self.values))

    def __contains__(self, value: object) -> bool:
        return value in self.values


Space = dict[str, Interval | Choices]


def searchable(module: ModuleType) -> dict[str, type[Options]]:
    """Return the options that can be searched, and the classes that declare them.

    Args:
        module: the module of the task's options.
    """
    excluded = {*COMMON, *getattr(module, "INCOMPARABLE", ())}
    classes: tuple[type[Options], ...] = (module.OPTIONS, TrainingOptions)
    return {name: kind for kind in classes for name in kind.model_fields if name not in excluded}


def parse(texts: Iterable[str], module: ModuleType) -> Space:
    """Parse texts such as "lr=1e-4..1e-1:log hidden=32,64".

    Args:
        texts: the texts, each of which may have several options.
        module: the module of the task's options.

    Raises:
        BadInput: for an option that cannot be searched, or values that it cannot have.
    """
    kinds, space = searchable(module), Space()
    for text in " ".join(texts).split():
        name, separator, values = text.partition("=")
        where = f"--space {text:.80}"
        if not separator or not values:
            raise BadInput(f"{where}: expected an option and its values, as in lr=1e-4..1e-1:log or hidden=32,64")
        option = meant(name.removeprefix("--").rstrip("_"), [key.rstrip("_") for key in kinds])
        option = next((key for key in kinds if key.rstrip("_") == option), None)
        if option is None:
            raise BadInput(_not_searchable(where, name, kinds, module))
        if option in space:
            raise BadInput(f"{where}: expected {name} once, got it twice")
        try:
            space[option] = _domain(kinds[option], option, values)
        except ValueError as error:
            raise BadInput(f"{where}: {error}") from None
    return space


def _not_searchable(where: str, name: str, kinds: Iterable[str], module: ModuleType) -> str:
    names = [flag(kind)[2:] for kind in kinds]
    others = [other.rstrip("_") for other in (*module.OPTIONS.model_fields, *TrainingOptions.model_fields)]
    if meant(name, others):
        return (
            f"{where}: {name} cannot be searched, since another value would change what the validation loss measures, "
            f"or nothing; expected one of {', '.join(names)}"
        )
    return f"{where}: expected one of {', '.join(names)}; got {name:.40}{perhaps(name, names)}"


def _domain(kind: type[Options], name: str, text: str) -> Interval | Choices:
    """Parse the values of an option.

    Raises:
        ValueError: if they are not values of the option.
    """
    field, type_ = kind.model_fields[name], without_none(get_type_hints(kind)[name])
    is_number = type_ in (int, float) and not names_of(field.annotation)
    range_text, has_scale, scale = text.partition(":")
    low_text, is_range, high_text = range_text.partition("..")
    if is_range:
        if not is_number:
            raise ValueError(f"expected values separated by commas, got the range {range_text:.40}")
        low, high = value_of(field, low_text), value_of(field, high_text)
        if has_scale and scale != "log":
            raise ValueError(f"expected :log, got :{scale:.40}")
        if low >= high:
            raise ValueError(f"expected a range from a number to a larger one, got {range_text:.40}")
        if has_scale and low <= 0:
            raise ValueError(f"expected a range of numbers greater than 0 with :log, got {range_text:.40}")
        return Interval(low, high, bool(has_scale), type_ is int)
    values = tuple(dict.fromkeys(value_of(field, part) for part in text.split(",")))
    if len(values) < 2:
        raise ValueError(f"expected a range or several values, got one; to fix it, pass {flag(name)} {text:.40}")
    return Choices(values)


def default_space(module: ModuleType) -> Space:
    """Return the default space of a task: `SPACE` of its options, or one around the defaults of common options.

    Args:
        module: the module of the task's options.
    """
    texts: Mapping[str, str] = getattr(module, "SPACE", None) or _around_defaults(module)
    return parse([f"{name}={values}" for name, values in texts.items()], module)


def _around_defaults(module: ModuleType) -> dict[str, str]:
    """Return a space for a task that has none of its own."""
    default = defaults(module, {}, ("lr", "hidden"))
    lr, texts = default["lr"], dict[str, str]()
    texts["lr"] = f"{lr / 10:g}..{lr * 3:g}:log"
    if hidden := default.get("hidden"):
        texts["hidden"] = f"{max(hidden // 2, 1)},{hidden},{2 * hidden}"
    others = {"layers": "1,2", "dropout": "0..0.5"}
    return texts | {name: values for name, values in others.items() if name in module.OPTIONS.model_fields}


def defaults(module: ModuleType, fixed: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the values that options have in a training if they are not set.

    Args:
        module: the module of the task's options.
        fixed: options that are set.
        names: the options; those that the task does not have are left out.
    """
    options, training = options_of_trial(module, fixed)
    values = dict(training) | {"lr": training.lr_at(0)} | dict(options)
    return {name: values[name] for name in names if name in values}


def options_of_trial(module: ModuleType, values: Mapping[str, Any]) -> tuple[Any, TrainingOptions]:
    """Return the options of the task and of the training of a trial.

    Args:
        module: the module of the task's options.
        values: options by name; the others have the defaults of the task.

    Raises:
        BadInput: for a schedule without a length.
        TypeError: for an unknown option.
        ValueError: for a value that an option cannot have.
    """
    names = set(TrainingOptions.model_fields)
    of_training = {name: value for name, value in values.items() if name in names and value is not None}
    of_task = {name: value for name, value in values.items() if name not in names}
    options = checked(module.OPTIONS, "elman.tune.search", of_task, names)
    return options, checked(TrainingOptions, "elman.tune.search", training_of(module, of_training))


def space_of(module: ModuleType, texts: Iterable[str], fixed: Iterable[str]) -> Space:
    """Return the space of a search.

    Args:
        module: the module of the task's options.
        texts: of `--space`; without any, the default space.
        fixed: names of options that all trials have in common.

    Raises:
        BadInput: if an option is fixed and searched, or if there is nothing to search.
    """
    texts, fixed = list(texts), set(fixed)
    if texts:
        space = parse(texts, module)
        if both := fixed & space.keys():
            name = flag(min(both))
            raise BadInput(f"--space {name[2:]}: expected an option that is not fixed, got {name} too; leave one out")
        if space:
            return space
        raise BadInput("--space: expected an option and its values, got none")
    fixed |= {"embed"} if "vectors" in fixed else set()  # which set the size of the embeddings
    space = {name: domain for name, domain in default_space(module).items() if name not in fixed}
    if not space:
        raise BadInput("--space: expected an option to search, got none: all options of the default space are fixed")
    return space


def description(space: Space) -> dict[str, str]:
    """Return a space as texts, which `parse` reads."""
    return {flag(name)[2:]: str(domain) for name, domain in space.items()}


def option_text(value: Any) -> str:
    """Return a value as on the command line, as short as it can be read back."""
    return short if isinstance(value, float) and float(short := f"{value:g}") == value else str(value)
