"""What turns the examples of a task to numbers and back."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from elman.errors import BadInput
from elman.io.json_fields import check_all
from elman.io.run_folder import Run


class Codec:
    """A dataclass of what JSON has; one that has more says how that is kept."""

    def kept(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def restored(cls, kept: dict[str, Any]) -> Self:
        """The same of its JSON.

        Raises:
            ValueError, TypeError, KeyError: for anything else.
        """
        return cls(**kept)

    def check(self) -> None:
        """Whether what was restored can be used.

        Raises:
            ValueError: if it cannot.
        """
        check_all(self, least=1)


def check_shape(run: Run, shape: dict[str, Any], file: Path) -> None:
    """Whether the model of a run is the one that belongs to its options and to what has turned data to numbers.

    Args:
        run: whose config.json tells of the model.
        shape: of the model that belongs to them.
        file: of what turns data to numbers.

    Raises:
        BadInput: if it is not.
    """
    told, options, config = run.config["model"], run.config["options"], run.path / "config.json"
    for name in [name for name in {**shape, **told} if shape.get(name) != told.get(name)]:
        if name in options and options[name] == shape.get(name):
            raise BadInput(
                f"{config}: expected model.{name} and options.{name} to be one, got {told.get(name)!r:.40} and "
                f"{options[name]!r:.40}"
            )
        raise BadInput(
            f"{file}: expected what the model of {config} was trained with, {name} {told.get(name)!r:.40}; got "
            f"{shape.get(name)!r:.40}"
        )
