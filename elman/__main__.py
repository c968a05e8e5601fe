"""The command line's way in."""

import os
import sys

from elman.errors import MissingPackage
from elman.extras import needs

# Threads that wait for work spin for some 0.1 ms and then sleep. By default they spin for many milliseconds, which
# halves a training's speed beside another busy process (benchmarks/results/busy.txt). OpenMP reads this once, when
# torch is loaded: the first is for GNU's library, the second for others.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"} & os.environ.keys():
    os.environ |= {"GOMP_SPINCOUNT": "2000", "OMP_WAIT_POLICY": "passive"}


def main() -> None:
    """Run `elman` with the arguments of the process."""
    try:
        with needs("train", "elman: the command line"):
            from elman.cli import run
    except MissingPackage as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    raise SystemExit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
