#!/usr/bin/env bash
# Tests the Go binding against build/lib with the race detector, then links it in each way that README
# names. Needs `make lib enclave`. Exits with 77 if no recent Go is installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
readonly TREE=$(cd -P ../.. && pwd)
rm -f "$TREE/build/tests/go/tests.log"

go=
for candidate in go "${CONFER_TOOLCHAINS:-${XDG_CACHE_HOME:-$HOME/.cache}/libconfer}/go/bin/go"; do
  if [[ $("$candidate" version 2>/dev/null) =~ go1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= 24)); then
    go=$candidate
    break
  fi
done
[[ -n $go ]] || { echo "Go 1.24 or newer is not installed: see make toolchains"; exit 77; }

export CONFER_ENCLAVE=${CONFER_ENCLAVE:-$TREE/build/bin/confer-enclave}
export CONFER_ENCLAVE_STATE=${CONFER_ENCLAVE_STATE:-$TREE/build/tests/enclave-state}
# Uses the installed Go and downloads nothing.
export GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_ENABLED=1
mkdir -p "$CONFER_ENCLAVE_STATE" "$TREE/build/tests/go"

[[ -z $("$("$go" env GOROOT)/bin/gofmt" -l .) ]] || { echo "gofmt would change files"; exit 1; }

"$go" vet ./...
staticcheck=${CONFER_TOOLCHAINS:-${XDG_CACHE_HOME:-$HOME/.cache}/libconfer}/go-tools/staticcheck
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

# Runs a command with the URL, token and policy of an enclave that ends afterwards.
with_enclave() {
  local started
  coproc ENCLAVE { exec "$CONFER_ENCLAVE" --exit-with-stdin --state "$CONFER_ENCLAVE_STATE"; }
  read -r started <&"${ENCLAVE[0]}"
  of() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" <<<"$started"; }
  CONFER_TOKEN=$(of token) URL=$(of url) POLICY=$(of policy) LD_LIBRARY_PATH=$TREE/build/lib "$@"
  exec {ENCLAVE[1]}>&-
  wait "$ENCLAVE_PID" || true
}

# README's first program compiles in another module. For the local enclave it needs two more settings.
hello=$TREE/build/tests/go/hello
rm -rf "$hello"
mkdir -p "$hello"
"$go" -C "$hello" mod init hello
"$go" -C "$hello" mod edit -require=libconfer/confer@v0.0.0 -replace=libconfer/confer="$PWD"
sed -n '/^```go$/,/^```$/p' README.md | sed '1d; /^```$/,$d' >"$hello/main.go"
(cd "$hello" && "$go" vet .)
sed -i 's/confer.Config{/&Endpoint: os.Getenv("URL"), Policy: policy, /' "$hello/main.go"
cat >"$hello/policy.go" <<'GO'
package main

import (
	"os"

	"libconfer/confer"
)

var policy, _ = confer.LoadPolicy(os.Getenv("POLICY"))
GO
(cd "$hello" && "$go" build -o hello .)
answer=$(with_enclave "$hello/hello")
[[ $answer == "You said: Hello!" ]] || { echo "README's program answered: $answer"; exit 1; }
echo "README's program: $answer"

echo "linked statically"
"$go" build -o "$TREE/build/tests/go/chat-static" ./examples/chat
if ldd "$TREE/build/tests/go/chat-static" | grep libconfer; then
  echo "the static program needs libconfer.so"
  exit 1
fi
# The linker warns that glibc loads its own shared libraries to resolve names.
"$go" build -tags netgo,osusergo -ldflags '-linkmode external -extldflags -static' -o "$TREE/build/tests/go/chat-fully-static" \
  ./examples/chat 2>/dev/null
if ldd "$TREE/build/tests/go/chat-fully-static" 2>/dev/null; then
  echo "the fully static program needs shared libraries"
  exit 1
fi

echo "linked through pkg-config"
if command -v pkg-config >/dev/null; then
  prefix=$TREE/build/tests/go/prefix
  mkdir -p "$prefix/lib/pkgconfig"
  cat >"$prefix/lib/pkgconfig/confer.pc" <<PC
Name: confer
Description: this checkout
Version: 0
Cflags: -I$TREE/include
Libs: -L$TREE/build/lib -lconfer
PC
  PKG_CONFIG_PATH=$prefix/lib/pkgconfig "$go" build -tags confer_pkgconfig -o "$TREE/build/tests/go/chat" ./examples/chat
else
  echo "SKIP Go through pkg-config: pkg-config is not installed"
fi
chat() { "$1" -url "$URL" -policy "$POLICY" "hello there" 2>/dev/null; }
for program in chat-static chat-fully-static chat; do
  [[ -x $TREE/build/tests/go/$program ]] || continue
  answer=$(with_enclave chat "$TREE/build/tests/go/$program")
  [[ $answer == "You said: hello there" ]] || { echo "$program answered: $answer"; exit 1; }
  echo "$program: $answer"
done
