#!/usr/bin/env bash
# Tests the Python package: its types, its wheel, and the installed wheel against the local enclave.
# `test.sh PYTHON…` also runs the tests with other interpreters.
# Needs `make lib enclave`. Exits with 77 if its tools are not installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
readonly TREE=$(cd -P ../.. && pwd)
readonly OUT=$TREE/build/tests/python
rm -rf "$OUT"
readonly TOOLS=${CONFER_TOOLCHAINS:-${XDG_CACHE_HOME:-$HOME/.cache}/libconfer}/python

[[ -e $TOOLS/.complete ]] || { echo "the tools for Python packages are not installed: see make toolchains"; exit 77; }

export CONFER_ENCLAVE=${CONFER_ENCLAVE:-$TREE/build/bin/confer-enclave}
export CONFER_ENCLAVE_STATE=${CONFER_ENCLAVE_STATE:-$TREE/build/tests/enclave-state}
export PYTHONDONTWRITEBYTECODE=1
unset CONFER_LIBRARY CONFER_WHEEL_PLATFORM PYTHONPATH
mkdir -p "$OUT" "$CONFER_ENCLAVE_STATE"

"$TOOLS/bin/python" generate.py --check
"$TOOLS/bin/mypy" --cache-dir "$OUT/mypy"
PYRIGHT_PYTHON_IGNORE_WARNINGS=1 "$TOOLS/bin/pyright" --pythonpath "$TOOLS/bin/python"

"$TOOLS/bin/python" -m build --wheel --no-isolation --outdir "$OUT" . >"$OUT/build.log" 2>&1 || { cat "$OUT/build.log"; exit 1; }
wheel=$(echo "$OUT"/*.whl)
if [[ $wheel == *-manylinux_* ]]; then
  # The name must have the platform that auditwheel finds in the symbols.
  fits() {
    local platform
    platform=$(sed 's/.*-\(manylinux_.*\)\.whl/\1/' <<<"$1")
    shown=$("$TOOLS/bin/auditwheel" show "$1" | tr '\n' ' ')
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
"$TOOLS/bin/python" -m venv "$OUT/venv"
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

# Runs a command with the URL, token and policy of an enclave that ends afterwards.
with_enclave() {
  local started
  coproc ENCLAVE { exec "$CONFER_ENCLAVE" --exit-with-stdin --state "$CONFER_ENCLAVE_STATE"; }
  read -r started <&"${ENCLAVE[0]}"
  of() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" <<<"$started"; }
  (cd "$OUT" && CONFER_TOKEN=$(of token) URL=$(of url) POLICY=$(of policy) "$@")
  exec {ENCLAVE[1]}>&-
  wait "$ENCLAVE_PID" || true
}

# README's first program. For the local enclave it needs two more settings.
sed -n '/^```python$/,/^```$/p' README.md | sed '1d; /^```$/,$d' |
  sed 's/confer.Config(/&endpoint=os.environ["URL"], policy=confer.Policy.load(os.environ["POLICY"]), /' >"$OUT/hello.py"
# A user's type checker finds the types in the wheel.
(cd "$OUT" && "$TOOLS/bin/mypy" --strict --cache-dir mypy-wheel --python-executable "$PYTHON" hello.py "$TREE"/bindings/python/examples/*.py)
answer=$(with_enclave "$PYTHON" hello.py)
[[ $answer == "You said: Hello!" ]] || { echo "README's program answered: $answer"; exit 1; }
echo "README's program: $answer"

chat() { "$PYTHON" "$TREE/bindings/python/examples/chat.py" --url "$URL" --policy "$POLICY" "hello there" 2>"$OUT/chat.log"; }
answer=$(with_enclave chat) || { cat "$OUT/chat.log"; exit 1; }
[[ $answer == "You said: hello there" ]] || { echo "the example answered: $answer"; exit 1; }
echo "examples/chat.py: $answer"

together() { "$PYTHON" "$TREE/bindings/python/examples/together.py" --url "$URL" --policy "$POLICY" one two; }
answer=$(with_enclave together)
[[ $answer == $'one: You said: one\ntwo: You said: two' ]] || { echo "the example answered: $answer"; exit 1; }
echo "examples/together.py: ${answer//$'\n'/, }"

for other in "$@"; do
  folder=$OUT/$("$other" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
  "$other" -m venv "$folder"
  "$folder/bin/pip" --quiet install --no-index --no-deps "$wheel"
  tests "$folder/bin/python" "$folder/tests.log"
done
