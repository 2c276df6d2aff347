#!/usr/bin/env bash
# Checks the vectors against schema.json, with the jsonschema of `make toolchains` or the machine's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

source ../../scripts/tools
python=$PYTHON_TOOLS/bin/python
[[ -x $python ]] || python=python3
exec "$python" test.py
