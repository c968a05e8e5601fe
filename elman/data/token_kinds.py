"""The kinds of tokens. Imports nothing heavy."""

KINDS = {"char": 0, "word": 10_000, "bpe": 1_000}  # default vocabulary size of each kind; 0 means unlimited
