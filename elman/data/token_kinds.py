"""The kinds of tokens. Imports nothing heavy."""

from typing import Literal

Kind = Literal["char", "word", "bpe"]
KINDS: dict[Kind, int] = {
    "char": 0,
    "word": 10_000,
    "bpe": 1_000,
}  # default vocabulary size of each kind; 0 means unlimited
