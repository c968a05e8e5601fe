"""Fuzz loaders for as long as you want: `python -m tests.fuzz --seconds 600 idx midi`.

Prints a line of counts for each loader, and the numbers of inputs that ended otherwise. `--input NUMBER` loads one of
them again, with its traceback.
"""

import argparse
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.driver import READ, REFUSED, Fuzzer, Outcome
from tests.fuzz.loaders import LOADERS

SECONDS = 10.0  # for an input
START_SECONDS = 120.0  # for a process to start and to make the valid files
BYTES = 3 << 30  # of memory for an input, beyond what the process has at first


def main() -> int:
    """Run the command; return 1 if an input was neither read nor refused."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("loader", nargs="*", help=f"all by default: {', '.join(LOADERS)}")
    parser.add_argument("--seconds", type=float, default=60, help="for each loader")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--input", type=int, help="load the input of this number")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)  # load inputs from this number on, for ever
    options = parser.parse_args()
    names = options.loader or list(LOADERS)
    if not set(names) <= set(LOADERS):
        parser.error(f"expected loaders among {', '.join(LOADERS)}")
    if options.input is not None or options.worker is not None:
        with tempfile.TemporaryDirectory() as folder:
            fuzzer = Fuzzer(LOADERS[names[0]], Path(folder), options.seed, SECONDS)
            if options.input is not None:
                print(repr(fuzzer.input(options.input).data[:2000]))
                fuzzer.load(options.input)
            else:
                _work(fuzzer, options.worker)
        return 0
    print(f"{'loader':22}{'inputs':>10}{'read':>10}{'refused':>10}{'failed':>8}", flush=True)
    failed = False
    for name in names:
        outcome = _watch(name, options.seed, options.seconds)
        counts = [outcome.counts.total(), *(outcome.counts[kind] for kind in (READ, REFUSED))]
        print(f"{name:22}" + "".join(f"{n:10,}" for n in counts) + f"{outcome.counts['failed']:8,}", flush=True)
        for ending, numbers in outcome.failures.items():
            print(f"    {ending}: {', '.join(map(str, numbers))}", flush=True)
        failed |= bool(outcome.failures)
    return int(failed)


def _work(fuzzer: Fuzzer, number: int) -> None:
    """Load inputs until the process is killed, in little memory; print how each ended."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    output = sys.stdout
    print("ready", file=output, flush=True)
    while True:
        print(fuzzer.ending(number), file=output, flush=True)
        number += 1


def _watch(name: str, seed: int, seconds: float) -> Outcome:
    """Fuzz a loader in other processes, which may crash or hang."""
    outcome, number, end = Outcome(), 0, None
    while end is None or time.monotonic() < end:
        command = [sys.executable, "-m", "tests.fuzz", name, "--seed", str(seed), "--worker", str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout
            lines = _Lines(process.stdout.fileno())
            if lines.next(START_SECONDS) != "ready":
                process.kill()
                raise RuntimeError(f"{name}: the process that loads inputs did not start")
            end = end or time.monotonic() + seconds
            while time.monotonic() < end:
                ending = lines.next(3 * SECONDS)
                if ending:
                    outcome.add(number, ending)
                    number += 1
                    continue
                process.kill()
                code = process.wait()
                outcome.add(number, f"more than {SECONDS:g} seconds" if ending is None else f"exit code {code}")
                number += 1
                break
            process.kill()
    return outcome


class _Lines:
    """Lines from a pipe, with a limit of time for each."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._rest = descriptor, b""

    def next(self, seconds: float) -> str | None:
        """Return the next line; "" at the end, None if there is none in time."""
        while b"\n" not in self._rest:
            if not select.select([self._descriptor], [], [], seconds)[0]:
                return None
            block = os.read(self._descriptor, 1 << 16)
            if not block:
                return ""
            self._rest += block
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()


if __name__ == "__main__":
    sys.exit(main())
