"""What a text can be made of. Imports nothing heavy."""

KINDS = {"char": 0, "word": 10_000, "bpe": 1_000}  # and how many tokens each may have; 0: all there are
