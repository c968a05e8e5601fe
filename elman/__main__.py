"""The command line's way in."""

import os
import sys

from elman.errors import MissingPackage
from elman.extras import needs

# Threads that wait sleep, rather than spin for milliseconds: on a busy machine a training then loses its neighbour's
# share and no more (benchmarks/results/busy.txt). OpenMP reads this once, when torch is loaded.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
    os.environ["OMP_WAIT_POLICY"] = "passive"


def main() -> None:
    """Run `elman` with the arguments of the process."""
    try:
        with needs("tasks", "elman: the command line"):
            from elman.cli import run
    except MissingPackage as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    raise SystemExit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
