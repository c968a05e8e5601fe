"""What every benchmark of shapes can be asked for."""

import argparse

import torch

from elman.bench.layers import parse


def arguments(about: str | None, shapes: str, seconds: float) -> argparse.ArgumentParser:
    """A parser of --threads, --shapes and --seconds.

    Args:
        about: the docstring of a benchmark, whose first line says what it is.
        shapes: that are measured unasked.
        seconds: for each, unasked.
    """
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--shapes", type=parse, default=parse(shapes))
    parser.add_argument("--seconds", type=float, default=seconds)
    return parser
