"""Stacks of recurrent layers by command-line options, and their titles."""

from elman import cells
from elman.bptt import Full, Truncated
from elman.layers import Stack


def stack(
    input: int, hidden: int, layers: int, cell: str, dropout: float, bptt: int = 0, bidirectional: bool = False
) -> Stack:
    """Make a stack of recurrent layers.

    Args:
        input: D, input size.
        hidden: H, hidden size of each direction.
        layers: number of layers.
        cell: a name in `elman.cells.REGISTRY`.
        dropout: dropout probability between layers.
        bptt: truncated BPTT: steps of the gradient; 0: all steps.
        bidirectional: whether to read sequences from both ends.
    """
    mode = Truncated(bptt) if bptt else Full()
    between = dropout if layers > 1 else 0.0
    kind = cells.by_name(cell)
    return Stack(input, hidden, layers, dropout=between, bidirectional=bidirectional, bptt=mode, cell_type=kind)


def title(cell: str, layers: int, hidden: int, bidirectional: bool = False) -> str:
    """Return the title of a network: layers, directions, cell and hidden size.

    >>> title("lstm", 2, 128, bidirectional=True)
    '2-layer bidirectional LSTM 128'
    """
    kind = f"{f'{layers}-layer ' if layers > 1 else ''}{'bidirectional ' if bidirectional else ''}"
    return f"{kind}{cells.by_name(cell).__name__} {hidden}"
