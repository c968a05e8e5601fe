"""The command `elman serve`. Imports nothing heavy, so that `--help` is fast."""

from typing import Annotated, Any

import typer
from pydantic import Field

from elman import options as shared
from elman.options import Whole, declared, under, with_parameters
from elman.serve.options import OVERRIDES, ServeOptions
from elman.tasks.overrides import readings


@with_parameters([*(under("Limits", option) for option in declared(ServeOptions)), *readings(OVERRIDES)])
def serve(
    run: shared.RunFolder,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; 0.0.0.0: all addresses of this machine. Anyone who can reach it can use the "
            "model: there is no password.",
            metavar="ADDRESS",
        ),
    ] = "127.0.0.1",
    port: Annotated[Whole, Field(ge=0, le=65_535, description="Port to listen on; 0: a free one.")] = 8000,
    accelerator: shared.Accelerator = "auto",
    **options: Any,
) -> None:
    """Serve a trained model over HTTP: predictions, generation as a stream, sessions."""
    from elman.extras import needs
    from elman.io.run_folder import open_run
    from elman.serve.server import listen
    from elman.serve.server import serve as serve_app

    open_run(run)  # before the imports, which take seconds
    with listen(host, port) as listening:
        with needs("serve", "elman serve"):
            from elman.serve.app import create_app

        app = create_app(run, accelerator, {name: value for name, value in options.items() if value is not None})
        serve_app(app, listening, host, options["timeout"])
