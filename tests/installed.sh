#!/bin/sh
# Builds the wheel and uses it from outside the checkout: what is missing from it shows here and nowhere else.
# PYTHON is an interpreter that has the dependencies.
set -eu
python=$(cd "$(dirname "$PYTHON")" && pwd)/$(basename "$PYTHON")
checkout=$(pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$scratch/dist" .
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$scratch/site" "$scratch"/dist/*.whl
cp -r "$checkout/tests" "$scratch/tests"
cp "$checkout/pyproject.toml" "$scratch"
cd "$scratch"
export PYTHONPATH="$scratch/site"
"$python" -c "import elman, os; assert elman.__file__.startswith('$scratch'), elman.__file__; assert os.path.exists(os.path.join(os.path.dirname(elman.__file__), 'py.typed'))"
# Every module is there and can be imported; layers, commands and pages work. All else is tested in the checkout.
"$python" -c "import elman, importlib, pkgutil
for module in pkgutil.walk_packages(elman.__path__, 'elman.'):
    if not module.name.endswith('__main__'):
        importlib.import_module(module.name)"
"$python" -m pytest tests/contract/test_recurrent.py tests/test_command.py tests/test_explain_page.py -k "not every_cell"
