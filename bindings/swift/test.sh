#!/usr/bin/env bash
# Tests the Swift binding against build/lib with warnings as errors, and runs its example. ConferHello
# would ask the real service, so it is only compiled. Needs `make lib enclave`. Exits with 77 if
# Swift 6.0 is not installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
readonly TREE=$(cd -P ../.. && pwd)
readonly OUT=$TREE/build/tests/swift

"$TREE/scripts/swift" --version >/dev/null 2>&1 || { echo "Swift 6.0 is not installed: see make toolchains"; exit 77; }

export CONFER_ENCLAVE=${CONFER_ENCLAVE:-$TREE/build/bin/confer-enclave}
export CONFER_ENCLAVE_STATE=${CONFER_ENCLAVE_STATE:-$TREE/build/tests/enclave-state}
mkdir -p "$OUT" "$CONFER_ENCLAVE_STATE"
cat >"$OUT/confer.pc" <<PC
Name: confer
Description: this checkout
Version: 0
Cflags: -I$TREE/include
Libs: -L$TREE/build/lib -lconfer
PC
options=(--scratch-path "$OUT/build" --pkg-config-path "$OUT" -Xswiftc -warnings-as-errors
         -Xlinker -rpath -Xlinker "$TREE/build/lib")

"$TREE/scripts/swift" test --disable-xctest "${options[@]}"

coproc ENCLAVE { exec "$CONFER_ENCLAVE" --exit-with-stdin --state "$CONFER_ENCLAVE_STATE"; }
read -r started <&"${ENCLAVE[0]}"
of() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" <<<"$started"; }
# Swift may run in a separate folder, so the policy must be visible there.
policy=$OUT/policy.json
cp "$(of policy)" "$policy"
answer=$(CONFER_TOKEN=$(of token) "$TREE/scripts/swift" run --skip-build "${options[@]}" ConferChat \
  --url "$(of url)" --policy "$policy" "hello there" 2>"$OUT/example.log") || { cat "$OUT/example.log"; exit 1; }
exec {ENCLAVE[1]}>&-
wait "$ENCLAVE_PID" || true
[[ $answer == "You said: hello there" ]] || { echo "the example answered: $answer"; exit 1; }
echo "ConferChat: $answer"
