"""The command `elman env`."""

import json

from elman.io.terminal import show
from elman.options import AsJson


def env(as_json: AsJson = False) -> None:
    """Print versions, machine, compiler, threads and executors, for bug reports."""
    from elman.environment import as_text, environment

    description = environment()
    show(json.dumps(description, indent=1) if as_json else as_text(description))
