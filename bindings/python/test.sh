#!/usr/bin/env bash
# Tests the Python package: its types, its wheel, and the installed wheel against the local enclave.
# `test.sh PYTHON…` also runs the tests with other interpreters.
# Needs `make lib enclave`. Exits with 77 if its tools are not installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ../../scripts/tools
source ../../tests/enclave.sh
readonly OUT=$TREE/build/tests/python
rm -rf "$OUT"

[[ -e $PYTHON_TOOLS/.complete ]] || { echo "the tools for Python packages are not installed: see make toolchains"; exit 77; }

export PYTHONDONTWRITEBYTECODE=1
unset CONFER_LIBRARY CONFER_WHEEL_PLATFORM PYTHONPATH
mkdir -p "$OUT"
: >"$OUT/tests.log"

"$PYTHON_TOOLS/bin/python" generate.py --check
"$PYTHON_TOOLS/bin/mypy" --cache-dir "$OUT/mypy"
PYRIGHT_PYTHON_IGNORE_WARNINGS=1 "$PYTHON_TOOLS/bin/pyright" --pythonpath "$PYTHON_TOOLS/bin/python"

"$PYTHON_TOOLS/bin/python" -m build --wheel --no-isolation --outdir "$OUT" . >"$OUT/build.log" 2>&1 || { cat "$OUT/build.log"; exit 1; }
wheel=$(echo "$OUT"/*.whl)
if [[ $wheel == *-manylinux_* ]]; then
  # The name must have the platform that auditwheel finds in the symbols.
  fits() {
    local platform
    platform=$(sed 's/.*-\(manylinux_.*\)\.whl/\1/' <<<"$1")
    shown=$("$PYTHON_TOOLS/bin/auditwheel" show "$1" | tr '\n' ' ')
    [[ $shown == *"is consistent with the following platform tag: \"$platform\""* ]]
  }
  fits "$wheel" || { echo "auditwheel: $shown"; exit 1; }
  echo "auditwheel: ${wheel##*-none-}"
  mkdir "$OUT/old"
  old=$OUT/old/$(basename "$wheel" | sed 's/manylinux_2_[0-9]*/manylinux_2_17/')
  cp "$wheel" "$old"
  ! fits "$old" || { echo "auditwheel does not see that a platform is too old"; exit 1; }
fi

# From here on only the wheel is used.
"$PYTHON_TOOLS/bin/python" -m venv "$OUT/venv"
readonly PYTHON=$OUT/venv/bin/python
"$OUT/venv/bin/pip" --quiet install --no-index --no-deps "$wheel"

# The wheel has the licences of all code in it, and the bill of materials.
packed=$(echo "$OUT"/venv/lib/python3*/site-packages/libconfer-*.dist-info)
mkdir "$OUT/licences"
(cd "$TREE" && scripts/dependencies "$OUT/licences")
cmp "$OUT/licences/THIRD-PARTY-LICENCES.txt" "$packed/licenses/THIRD-PARTY-LICENCES.txt"
cmp "$OUT/licences/libconfer.cdx.json" "$packed/sboms/libconfer.cdx.json"
for licence in LICENSE-MIT LICENSE-APACHE; do cmp "$TREE/$licence" "$packed/licenses/$licence"; done
[[ $(grep -c '^License-File: ' "$packed/METADATA") == 3 ]] || { echo "METADATA does not name the licences"; exit 1; }

# -X dev shows resources that a test forgets.
tests() { # python, log
  "$1" -X dev -W error -m unittest discover --verbose --top-level-directory . --start-directory tests 2>&1 | tee "$2"
  if grep -E 'Exception ignored|Warning:|never retrieved' "$2"; then
    echo "the tests left an ignored exception or a warning"
    exit 1
  fi
}
tests "$PYTHON" "$OUT/tests.log"

# README's first program. For the local enclave it needs two more settings.
sed -n '/^```python$/,/^```$/p' README.md | sed '1d; /^```$/,$d' |
  sed 's/confer.Config(/&endpoint=os.environ["CONFER_TEST_URL"], policy=confer.Policy.load(os.environ["CONFER_TEST_POLICY"]), /' >"$OUT/hello.py"
# A user's type checker finds the types in the wheel.
(cd "$OUT" && "$PYTHON_TOOLS/bin/mypy" --strict --cache-dir mypy-wheel --python-executable "$PYTHON" hello.py "$TREE"/bindings/python/examples/*.py)
answers "README's program" "You said: Hello!" "$PYTHON" "$OUT/hello.py"
answers examples/chat.py "You said: hello there" "$PYTHON" examples/chat.py --url @URL --policy @POLICY "hello there"
answers examples/together.py $'one: You said: one\ntwo: You said: two' \
  "$PYTHON" examples/together.py --url @URL --policy @POLICY one two

for other in "$@"; do
  folder=$OUT/$("$other" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
  "$other" -m venv "$folder"
  "$folder/bin/pip" --quiet install --no-index --no-deps "$wheel"
  tests "$folder/bin/python" "$folder/tests.log"
done
