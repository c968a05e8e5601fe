"""What turns the examples of a task to numbers and back."""

from dataclasses import asdict
from typing import Any, Self

from elman.fields import check_all


class PlainCodec:
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
