#!/usr/bin/env bash
# Tests the Swift binding against build/lib with warnings as errors, and runs its example and README's
# program. Needs `make lib enclave`. Exits with 77 if Swift 6.0 is not installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
readonly TREE=$(cd -P ../.. && pwd)
readonly OUT=$TREE/build/tests/swift
rm -f "$OUT/tests.log"

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

"$TREE/scripts/swift" test --disable-xctest "${options[@]}" 2>&1 | tee "$OUT/tests.log"

# Runs a command with the URL, token and policy of an enclave that ends afterwards. Checks its
# answer.
asks() {
  local started answer
  coproc ENCLAVE { exec "$CONFER_ENCLAVE" --exit-with-stdin --state "$CONFER_ENCLAVE_STATE"; }
  read -r started <&"${ENCLAVE[0]}"
  of() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" <<<"$started"; }
  # Swift may run in a separate folder, so the policy must be visible there.
  cp "$(of policy)" "$OUT/policy.json"
  answer=$(CONFER_TOKEN=$(of token) CONFER_TEST_URL=$(of url) CONFER_TEST_POLICY=$OUT/policy.json "${@:3}" 2>"$OUT/answer.log") ||
    { cat "$OUT/answer.log"; exit 1; }
  exec {ENCLAVE[1]}>&-
  wait "$ENCLAVE_PID" || true
  [[ $answer == "$2" ]] || { echo "$1 answered: $answer"; exit 1; }
  echo "$1: $answer"
}

chat() {
  "$TREE/scripts/swift" run --skip-build "${options[@]}" ConferChat --url "$CONFER_TEST_URL" --policy "$CONFER_TEST_POLICY" \
    "hello there"
}
asks ConferChat "You said: hello there" chat

# README's first program, in a package set up as README says. For the local enclave it needs two
# more settings.
hello=$OUT/hello
mkdir -p "$hello/Sources/hello"
sed -n '/^```swift$/,/^```$/p' README.md | sed '1d; /^```$/,$d' |
  sed 's/Configuration(token: token)/Configuration(token: token, endpoint: variable("URL"), policy: Policy(contentsOfFile: variable("POLICY")))/' \
    >"$hello/Sources/hello/main.swift"
cat >"$hello/Sources/hello/variable.swift" <<'SWIFT'
import Foundation

func variable(_ name: String) -> String { ProcessInfo.processInfo.environment["CONFER_TEST_" + name]! }
SWIFT
sed -n '/swift-tools-version/,/^```$/p' README.md | sed "/^\`\`\`/d; s|CONFER/share/confer/swift|$PWD|" >"$hello/Package.swift"
cd "$hello"
"$TREE/scripts/swift" build "${options[@]/#$OUT\/build/$OUT/hello-build}"
program() { "$TREE/scripts/swift" run --skip-build "${options[@]/#$OUT\/build/$OUT/hello-build}" hello; }
asks "README's program" "You said: Hello!" program
