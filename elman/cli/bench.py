"""The command `elman bench`."""

import json
from typing import Annotated, Literal

import typer
from pydantic import Field

from elman.options import AsJson, Real, Whole, with_parameters

ALL = "lstm gru rnn-tanh rnn-relu"


@with_parameters()
def bench(
    cells: Annotated[str, typer.Option(help="Layers to measure.", metavar="NAMES")] = ALL,
    shapes: Annotated[
        str | None, typer.Option(help="Shapes to measure.", metavar='"T,B,D,H ..."', show_default="ten shapes")
    ] = None,
    threads: Annotated[
        Whole | None, Field(ge=1, description="Number of threads."), typer.Option(show_default="torch's default")
    ] = None,
    seconds: Annotated[Real, Field(gt=0, description="Measuring time of each figure, in seconds.")] = 1.0,
    dtype: Annotated[
        Literal["float32", "bf16"], typer.Option(help="Dtype of the layers: float32 or bf16.", metavar="NAME")
    ] = "float32",
    input_gradient: Annotated[bool, typer.Option(help="Also compute the gradient of x.")] = True,
    as_json: AsJson = False,
) -> None:
    """Compare the speed of elman's layers with torch.nn's, after a check that their results agree."""
    import torch

    from elman.bench import layers, report, run
    from elman.errors import BadInput, Failure

    names = cells.split()
    if not names or any(name not in layers.PAIRS for name in names):
        raise BadInput(f"--cells: expected some of {', '.join(layers.PAIRS)}; got {cells!r}")
    try:
        sizes = layers.SHAPES if shapes is None else layers.parse(shapes)
    except ValueError:
        raise BadInput(f'--shapes: expected sizes "T,B,D,H", each at least 1; got {shapes!r}') from None
    previous_threads = torch.get_num_threads()
    torch.set_num_threads(threads or previous_threads)
    try:
        peak = run.peak(seconds, layers.DTYPES[dtype])
        measurements = run.measure(names, sizes, seconds, input_gradient, layers.DTYPES[dtype])
        rows = list(report.with_progress(measurements, len(names) * len(sizes)))
    finally:
        torch.set_num_threads(previous_threads)
    if as_json:
        results = {
            "machine": run.machine(layers.DTYPES[dtype]),
            "dtype": dtype,
            "peak": peak,
            "rows": [run.as_json(row) for row in rows],
        }
        print(json.dumps(results, indent=1))
    else:
        report.table(rows, peak, run.machine(layers.DTYPES[dtype]), dtype)
    if not all(row.agrees for row in rows):
        raise Failure("the results of some layers differ from torch.nn's; no ratio is printed for them")
