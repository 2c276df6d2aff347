#!/usr/bin/env bash
# Tests the Go binding against build/lib with the race detector, then links it in each way that README
# names. Needs `make lib enclave`. Exits with 77 if no recent Go is installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ../../scripts/tools
source ../../tests/enclave.sh
rm -f "$TREE/build/tests/go/tests.log"

go=$(find_go) || { echo "Go $GO_MINIMUM or newer is not installed: see make toolchains"; exit 77; }

# Uses the installed Go and downloads nothing.
export GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_ENABLED=1
mkdir -p "$TREE/build/tests/go"
: >"$TREE/build/tests/go/tests.log"

[[ -z $("$("$go" env GOROOT)/bin/gofmt" -l .) ]] || { echo "gofmt would change files"; exit 1; }

"$go" vet ./...
staticcheck=$GO_TOOLS/staticcheck
[[ -x $staticcheck ]] || staticcheck=$(command -v staticcheck || true)
if [[ -x $staticcheck ]]; then
  PATH=$(dirname "$(command -v "$go")"):$PATH "$staticcheck" -checks all ./...
else
  echo "SKIP staticcheck: it is not installed"
fi
# -count: Go's cache of results does not know the enclave and the library.
shared=(env CGO_LDFLAGS="-Wl,-rpath,$TREE/build/lib" "$go" test -tags confer_shared -count=1)
"${shared[@]}" -race -v ./... | tee "$TREE/build/tests/go/tests.log" | grep -v '^=== '
# From Go 1.25 on, the address sanitizer reports memory of the library that nothing refers to any more.
"${shared[@]}" -asan -run '^TestNothingIsLeft' .

# README's first program compiles in another module. For the local enclave it needs two more settings.
hello=$TREE/build/tests/go/hello
rm -rf "$hello"
mkdir -p "$hello"
"$go" -C "$hello" mod init hello
"$go" -C "$hello" mod edit -require=libconfer/confer@v0.0.0 -replace=libconfer/confer="$PWD"
sed -n '/^```go$/,/^```$/p' README.md | sed '1d; /^```$/,$d' >"$hello/main.go"
(cd "$hello" && "$go" vet .)
sed -i 's/confer.Config{/&Endpoint: os.Getenv("CONFER_TEST_URL"), Policy: policy, /' "$hello/main.go"
cat >"$hello/policy.go" <<'GO'
package main

import (
	"os"

	"libconfer/confer"
)

var policy, _ = confer.LoadPolicy(os.Getenv("CONFER_TEST_POLICY"))
GO
(cd "$hello" && "$go" build -o hello .)
answers "README's program" "You said: Hello!" "$hello/hello"

echo "linked statically"
"$go" build -o "$TREE/build/tests/go/chat-static" ./examples/chat
if ldd "$TREE/build/tests/go/chat-static" | grep libconfer; then
  echo "the static program needs libconfer.so"
  exit 1
fi
# The linker warns that glibc loads its own shared libraries to resolve names.
"$go" build -tags netgo,osusergo -ldflags '-linkmode external -extldflags -static' -o "$TREE/build/tests/go/chat-fully-static" \
  ./examples/chat 2>"$TREE/build/tests/go/static.log" || { cat "$TREE/build/tests/go/static.log"; exit 1; }
if ldd "$TREE/build/tests/go/chat-fully-static" 2>/dev/null; then
  echo "the fully static program needs shared libraries"
  exit 1
fi

echo "linked through pkg-config"
if command -v pkg-config >/dev/null; then
  confer_pc "$TREE/build/tests/go"
  PKG_CONFIG_PATH=$TREE/build/tests/go "$go" build -tags confer_pkgconfig -o "$TREE/build/tests/go/chat" ./examples/chat
else
  echo "SKIP Go through pkg-config: pkg-config is not installed"
fi
for program in chat-static chat-fully-static chat; do
  [[ -x $TREE/build/tests/go/$program ]] || continue
  answers "$program" "You said: hello there" env LD_LIBRARY_PATH="$TREE/build/lib" "$TREE/build/tests/go/$program" \
    -url @URL -policy @POLICY "hello there"
done
