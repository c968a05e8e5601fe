"""The command `elman draw`. Imports nothing heavy, so that `--help` is fast."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field

from elman.cells import REGISTRY
from elman.errors import BadInput
from elman.io.files import PICTURES, check_place
from elman.io.names import meant, perhaps
from elman.io.terminal import show
from elman.options import Whole, with_parameters

if TYPE_CHECKING:
    from torch import nn

    from elman.flow import Recording


@with_parameters()
def draw(
    what: Annotated[str, typer.Argument(help="A built-in cell, or a run folder.", metavar="WHAT", show_default=False)],
    input: Annotated[
        Whole | None, Field(ge=1, description="Input size, for a cell."), typer.Option(show_default="16")
    ] = None,
    hidden: Annotated[
        Whole | None, Field(ge=1, description="Hidden size, for a cell."), typer.Option(show_default="32")
    ] = None,
    layers: Annotated[
        Whole | None, Field(ge=1, description="Number of layers, for a cell."), typer.Option(show_default="1")
    ] = None,
    bidirectional: Annotated[bool, typer.Option("--bidirectional", help="Bidirectional layers, for a cell.")] = False,
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Show the gradients of a backward pass, for a run.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Output file, PNG or SVG.", metavar="FILE", show_default="WHAT.svg")
    ] = None,
) -> None:
    """Draw a recurrent network, folded and unfolded, with the names and shapes of its model."""
    cell = meant(what, REGISTRY)
    path = out or Path(f"{cell or Path(what).resolve().name}.svg")
    check_place(path, PICTURES, "--out " if out else "")
    sizes = {"--input": input, "--hidden": hidden, "--layers": layers, "--bidirectional": bidirectional or None}
    passed = [name for name, value in sizes.items() if value is not None]
    note = f"; for the run in the folder of that name, pass ./{what}" if cell and Path(what).is_dir() else ""
    if cell and gradients:
        got = f"the cell {cell}{note}"
        raise BadInput(f"--gradients: expected a run folder, got {got}")
    if cell:
        model, recording = _of_cell(cell, input or 16, hidden or 32, layers or 1, bidirectional), None
    elif not Path(what).exists():
        expected = f"a cell, one of {', '.join(REGISTRY)}, or a run folder"
        raise BadInput(f"{what}: expected {expected}; got neither{perhaps(what, REGISTRY)}")
    elif passed:
        raise BadInput(f"{passed[0]}: expected a built-in cell, got the run {what}, whose sizes are fixed")
    else:
        model, recording = _of_run(Path(what), gradients)
    from elman.drawing import network

    network.draw(model, path, recording)
    show(f"drawing: {path}{', the cell' if note else ''}{note}")


def _of_cell(name: str, input: int, hidden: int, layers: int, bidirectional: bool) -> "nn.Module":
    """Create a stack of a cell on the meta device, since a drawing needs only shapes."""
    from elman.cells import by_name
    from elman.layers import Stack

    return Stack(input, hidden, layers, bidirectional=bidirectional, cell_type=by_name(name), device="meta")


def _of_run(path: Path, gradients: bool) -> "tuple[nn.Module, Recording | None]":
    """Load the model of a run, and record a backward pass if `gradients` is true."""
    from elman.io.run_folder import open_run
    from elman.tasks import inspection

    return inspection.network(open_run(path), gradients)
