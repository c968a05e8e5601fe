#!/bin/sh
# Builds the wheel and runs tests on it, in a copy of the checkout without the package: what is missing from the wheel
# shows here and nowhere else.
#
#     PYTHON=.venv/bin/python sh tests/installed.sh          # a selection: all files that are not Python, all tasks
#     PYTHON=.venv/bin/python sh tests/installed.sh tests    # all tests; arguments go to pytest
#
# PYTHON is an interpreter that has the dependencies.
set -eu
python=$(cd "$(dirname "$PYTHON")" && pwd)/$(basename "$PYTHON")
checkout=$(pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$scratch/dist" .
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$scratch/site" "$scratch"/dist/*.whl
git ls-files -z --cached --others --exclude-standard | grep -zv '^elman/' | xargs -0 cp --parents -t "$scratch"
cd "$scratch"
export PYTHONPATH="$scratch/site" ELMAN_CHECKOUT="$checkout"
if [ $# = 0 ]; then
	set -- tests/contract/test_recurrent.py tests/test_command.py tests/test_explain_page.py tests/test_report.py \
		tests/tasks/test_hub.py tests/tasks/test_trained.py -k "not every_cell"
fi
"$python" -m pytest tests/test_installed.py --ignore tests/test_repository.py "$@"
