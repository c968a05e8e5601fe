"""What `elman train text` can be asked, apart from what every training can. Imports nothing heavy."""

from dataclasses import dataclass
from typing import Any

KINDS = {"char": 0, "word": 10_000, "bpe": 1_000}  # and how many tokens each may have; 0: all there are


@dataclass(frozen=True)
class TextOptions:
    """The options by their names on the command line, which has their defaults."""

    tokens: str
    vocabulary: int
    cell: str
    hidden: int
    layers: int
    embed: int
    dropout: float
    bptt: int
    batch: int

    def shape(self, vocabulary: int) -> dict[str, Any]:
        """The arguments of the model, for a vocabulary of this size."""
        return {
            "vocabulary": vocabulary,
            "cell": self.cell,
            "embed": self.embed or (64 if self.tokens == "char" else self.hidden),
            "hidden": self.hidden,
            "layers": self.layers,
            "dropout": self.dropout,
        }
