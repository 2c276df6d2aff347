#!/usr/bin/env bash
# Tests the Go binding against build/lib with the race detector, then links it statically and through
# pkg-config. Needs `make lib enclave`. Exits with 77 if no recent Go is installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
readonly TREE=$(cd -P ../.. && pwd)

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

in_tree=(env CGO_CFLAGS="-O2 -g -I$TREE/include" CGO_LDFLAGS="-L$TREE/build/lib -Wl,-rpath,$TREE/build/lib")
"${in_tree[@]}" "$go" vet ./...
# -count: Go's cache of results does not know the enclave and the library.
"${in_tree[@]}" "$go" test -race -count=1 ./...

# README's program compiles in a module set up as README says.
mkdir -p "$TREE/build/tests/go/hello"
sed -n '/^```go$/,/^```$/{/^```/!p}' README.md >"$TREE/build/tests/go/hello/main.go"
printf 'module hello\n\ngo 1.24\n\n%s\nreplace libconfer/confer => %s\n' "$(sed -n '/^require libconfer/p' README.md)" "$PWD" \
  >"$TREE/build/tests/go/hello/go.mod"
(cd "$TREE/build/tests/go/hello" && "${in_tree[@]}" "$go" vet .)

echo "linked statically"
"${in_tree[@]}" "$go" build -tags confer_static -o "$TREE/build/tests/go/chat-static" ./examples/chat
if ldd "$TREE/build/tests/go/chat-static" | grep libconfer; then
  echo "the static program needs libconfer.so"
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
for program in chat-static chat; do
  [[ -x $TREE/build/tests/go/$program ]] || continue
  # The example prints the answer of an enclave, which ends with its stdin.
  coproc ENCLAVE { exec "$CONFER_ENCLAVE" --exit-with-stdin --state "$CONFER_ENCLAVE_STATE"; }
  read -r started <&"${ENCLAVE[0]}"
  of() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" <<<"$started"; }
  answer=$(CONFER_TOKEN=$(of token) LD_LIBRARY_PATH=$TREE/build/lib "$TREE/build/tests/go/$program" \
    -url "$(of url)" -policy "$(of policy)" "hello there" 2>/dev/null)
  exec {ENCLAVE[1]}>&-
  wait "$ENCLAVE_PID" || true
  [[ $answer == "You said: hello there" ]] || { echo "$program answered: $answer"; exit 1; }
  echo "$program: $answer"
done
