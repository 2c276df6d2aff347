#!/usr/bin/env bash
# Tests the Swift binding against build/lib with warnings as errors, and runs its example and README's
# program. Needs `make lib enclave`. Exits with 77 if Swift 6.0 is not installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ../../scripts/tools
source ../../tests/enclave.sh
readonly OUT=$TREE/build/tests/swift
rm -f "$OUT/tests.log"

"$TREE/scripts/swift" --version >/dev/null 2>&1 || { echo "Swift 6.0 is not installed: see make toolchains"; exit 77; }

mkdir -p "$OUT"
: >"$OUT/tests.log"
export WERROR=-Werror

# On a Mac the package takes the XCFramework.
CONFER_XCFRAMEWORK=1 "$TREE/scripts/swift" package --scratch-path "$OUT/manifest" dump-package >"$OUT/manifest.json"
python3 - "$OUT/manifest.json" <<'PY'
import json, sys
targets = {target["name"]: target for target in json.load(open(sys.argv[1]))["targets"]}
assert targets["CConfer"]["type"] == "binary" and targets["CConfer"]["path"] == "Confer.xcframework", targets["CConfer"]
PY

swift_in_tree "$OUT" test --disable-xctest 2>&1 | tee "$OUT/tests.log"

# Swift may run in a separate folder, so the policy must be visible there.
with_policy() {
  cp "$CONFER_TEST_POLICY" "$OUT/policy.json"
  CONFER_TEST_POLICY=$OUT/policy.json "$@"
}
chat() {
  swift_in_tree "$OUT" run --skip-build ConferChat --url "$CONFER_TEST_URL" --policy "$CONFER_TEST_POLICY" "hello there"
}
answers ConferChat "You said: hello there" with_policy chat

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
sed -n '/swift-tools-version/,/^```$/p' README.md |
  sed "/^\`\`\`/d; s|Context.environment.*/share/confer/swift\"|\"$PWD\"|" >"$hello/Package.swift"
cd "$hello"
swift_in_tree "$hello" build
answers "README's program" "You said: Hello!" with_policy swift_in_tree "$hello" run --skip-build hello
without_token() {
  unset CONFER_TOKEN
  ! swift_in_tree "$hello" run --skip-build hello 2>&1
}
answers "README's program without a token" "CONFER_E_INVALID_ARGUMENT: token: none was set" with_policy without_token
