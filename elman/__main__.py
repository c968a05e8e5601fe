"""The command line's way in."""

import os
import signal
import sys
from types import FrameType

from elman.errors import MissingPackage
from elman.extras import needs

# Threads that wait for work spin for some 0.1 ms and then sleep. By default they spin for many milliseconds, which
# halves a training's speed beside another busy process (benchmarks/results/busy.txt). OpenMP reads this once, when
# torch is loaded: the first is for GNU's library, the second for others.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"} & os.environ.keys():
    os.environ |= {"GOMP_SPINCOUNT": "2000", "OMP_WAIT_POLICY": "passive"}


def main() -> None:
    """Run `elman` with the arguments of the process."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # which is not so where a shell has it ignored
        signal.signal(signal.SIGINT, _leave)
    try:
        with needs("train", "elman: the command line"):
            from elman.cli import run
    except MissingPackage as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    signal.signal(signal.SIGINT, handler)
    raise SystemExit(run(sys.argv[1:]))


def _leave(number: int, frame: FrameType | None) -> None:
    """End the process at Ctrl-C while it imports packages, some of which go on after KeyboardInterrupt."""
    print("elman: interrupted", file=sys.stderr, flush=True)
    os._exit(128 + number)


if __name__ == "__main__":
    main()
