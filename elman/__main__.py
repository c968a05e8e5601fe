"""The command line's way in."""

import sys


def main() -> None:
    """Run `elman` with the arguments of the process."""
    try:
        from elman.cli import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "elman":
            raise
        print(f"elman: the command line needs {error.name}; pip install 'elman[tasks]'", file=sys.stderr)
        raise SystemExit(2) from None
    raise SystemExit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
