"""Recurrent layers by the names that the command line has for them, and what such a network is called."""

from elman import cells
from elman.bptt import Full, Truncated
from elman.layers import Stack


def stack(
    input: int, hidden: int, layers: int, cell: str, dropout: float, bptt: int = 0, bidirectional: bool = False
) -> Stack:
    """The layers.

    Args:
        input: D.
        hidden: H, of every layer and direction.
        layers: how many of them.
        cell: a name in `elman.cells.REGISTRY`.
        dropout: probability, on what each layer hands to the next, in training.
        bptt: steps that the gradient goes back; 0: all the way.
        bidirectional: read from both ends.
    """
    mode = Truncated(bptt) if bptt else Full()
    between = dropout if layers > 1 else 0.0
    kind = cells.by_name(cell)
    return Stack(input, hidden, layers, dropout=between, bidirectional=bidirectional, bptt=mode, cell_type=kind)


def title(cell: str, layers: int, hidden: int, bidirectional: bool = False) -> str:
    """What people call a network of these.

    >>> title("lstm", 2, 128, bidirectional=True)
    'LSTM 2 x 2 x 128'
    """
    many = f"{f'{layers} x ' if layers > 1 else ''}{'2 x ' if bidirectional else ''}"
    return f"{cells.by_name(cell).__name__} {many}{hidden}"
