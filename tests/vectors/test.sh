#!/usr/bin/env bash
# Checks the vectors against schema.json, with the jsonschema of `make toolchains` or the machine's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

python=${CONFER_TOOLCHAINS:-${XDG_CACHE_HOME:-$HOME/.cache}/libconfer}/python/bin/python
[[ -x $python ]] || python=python3
exec "$python" test.py
