#!/usr/bin/env bash
# Links the installed libconfer.a with other static libraries: Rust, Rust with another aws-lc,
# and OpenSSL. Each program connects to the local enclave, chats, and uses the other library.
#
# Needs what `make lib enclave` builds.
set -uo pipefail
cd "$(dirname "$0")/../.."
source scripts/tools

CARGO=${CARGO:-cargo}
CC=${CC:-cc}
command -v pkg-config >/dev/null 2>&1 || { echo "pkg-config is not installed"; exit 77; }
pkg-config --exists libssl || { echo "libssl-dev is not installed"; exit 77; }

into=$(mktemp -d)
trap 'rm -rf "$into"' EXIT
CONFER_ENCLAVE_STATE=$into/state
source tests/enclave.sh
make --no-print-directory install DESTDIR="$into" PREFIX=/usr >/dev/null 2>"$into/log" || { cat "$into/log"; exit 1; }
export PKG_CONFIG_PATH=$into/usr/lib/pkgconfig
lib=$into/usr/lib
libconfer=$lib/libconfer.a

passed=0 failed=0
# Runs a command as one test. Its output is shown if it fails.
try() {
  local name=$1
  shift
  if "$@" >"$into/log" 2>&1; then passed=$((passed + 1)) && echo "ok: $name"; else
    failed=$((failed + 1))
    echo "FAILED: $name"
    head -10 "$into/log" | sed 's/^/    /'
  fi
}

# ---- the archive ---------------------------------------------------------------------------------

expected() { sed '/^#/d; s/ .*//' docs/symbols-in-versions; }
globals() { nm --extern-only --defined-only "$libconfer" | awk 'NF > 2 {print $2, $3}'; }
exports_only_its_functions() {
  diff <(expected | LC_ALL=C sort) <(globals | sed -n 's/^T //p' | LC_ALL=C sort) &&
    ! globals | grep -v '^T ' | grep -vx 'V DW\.ref\.rust_eh_personality'
}

# The Makefile and scripts/cross-settings own the lists of system libraries.
everyone_names_the_same_libraries() {
  local unix windows
  unix=$(sed -n 's/^LIBS_PRIVATE := //p' Makefile)
  windows=$(source scripts/cross-settings && echo "$WINDOWS_LIBS")
  [ -n "$unix" ] && [ -n "$windows" ] || return 1
  grep -F -e "-l:libconfer.a $unix" bindings/go/link_static.go && grep -F -e "build/lib/libconfer.a $unix -o" README.md &&
    grep -F -e "\`$windows\`" docs/targets.md
}

# The unused parts of the library leave a program that is linked with --gc-sections.
system=($(pkg-config --static --libs-only-l confer | sed 's/-lconfer//'))
code_size() { size "$1" | awk 'NR == 2 {print $1}'; }
unused_parts_are_dropped() {
  printf '%s\n' '#include <confer.h>' 'int main(void) { return confer_version_number() == 0; }' >"$into/version.c"
  "$CC" -Iinclude "$into/version.c" "$libconfer" "${system[@]}" -o "$into/whole" &&
    "$CC" -Iinclude "$into/version.c" "$libconfer" "${system[@]}" -Wl,--gc-sections -o "$into/part" &&
    "$into/part" && echo "$(code_size "$into/part") of $(code_size "$into/whole") bytes" &&
    (($(code_size "$into/part") * 4 < $(code_size "$into/whole")))
}

# ---- programs ------------------------------------------------------------------------------------

# The neighbours are libraries with one function, `neighbour`. aws-lc is built with the enclave's.
build_rust() { # features
  AWS_LC_SYS_NO_JITTER_ENTROPY=1 AWS_LC_SYS_SMALL=0 "$CARGO" build --quiet --locked \
    --manifest-path tests/static/neighbour/Cargo.toml --target-dir tests/enclave/target "$@" &&
    cp tests/enclave/target/debug/libneighbour.a "$into/libneighbour.a"
}
neighbours() {
  build_rust && mv "$into/libneighbour.a" "$into/librust.a" &&
    build_rust --features aws-lc-rs && mv "$into/libneighbour.a" "$into/libaws.a" &&
    "$CC" -O1 -c tests/static/openssl.c -o "$into/openssl.o" && ar rcs "$into/libopenssl.a" "$into/openssl.o" &&
    "$CC" -std=c11 -Wall -Wextra -Werror -O1 -g -pthread -Itests/c -Iinclude -c tests/static/beside.c -o "$into/beside.o"
}

both_work() { # libraries and flags…
  "$CC" "$into/beside.o" "$@" "${system[@]}" -o "$into/beside" && [ "$("$into/beside")" = "both work" ]
}
is_static() { ! readelf --dynamic "$into/beside" | grep NEEDED; }
fully_static() { both_work -static "$@" && is_static; }

go=$(find_go) || true
# cgo puts CGO_LDFLAGS before the flags of packages, so they give the order.
both_work_in_go() { # Go's linker flags, libraries…
  local flags=$1
  shift
  (cd tests/static/go &&
    GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_CFLAGS="-O1 -I$into/usr/include" CGO_LDFLAGS="-L$lib $*" \
      "$go" build -tags netgo,osusergo -ldflags "$flags" -o "$into/beside" .) &&
    [ "$("$into/beside")" = "both work" ]
}
fully_static_in_go() { both_work_in_go "-linkmode external -extldflags -static" "$@" && is_static; }

try "libconfer.a exports its functions and nothing else" exports_only_its_functions
try "README, the Go module and docs/targets.md name the libraries that libconfer.a needs" everyone_names_the_same_libraries
try "the linker drops unused parts of libconfer.a" unused_parts_are_dropped
cat "$into/log"
neighbours || { echo "FAILED: the other libraries are not built"; exit 1; }
for neighbour in rust aws openssl; do
  other=("$into/lib$neighbour.a")
  [ $neighbour != openssl ] || other+=(-lssl -lcrypto)
  try "C, libconfer.a before $neighbour" both_work "$libconfer" "${other[@]}"
  try "C, libconfer.a after $neighbour" both_work "${other[@]}" "$libconfer"
  try "C, fully static, before $neighbour" fully_static "$libconfer" "${other[@]}"
  try "C, fully static, after $neighbour" fully_static "${other[@]}" "$libconfer"
  # As with -force_load of an app for iOS.
  try "C, all of both, before $neighbour" both_work -Wl,--whole-archive "$libconfer" "${other[0]}" -Wl,--no-whole-archive "${other[@]:1}"
  try "C, all of both, after $neighbour" both_work -Wl,--whole-archive "${other[0]}" "$libconfer" -Wl,--no-whole-archive "${other[@]:1}"
  [ -n "$go" ] && [ $neighbour = aws ] || continue
  try "Go, libconfer.a before $neighbour" both_work_in_go "" -l:libconfer.a "${other[@]}"
  try "Go, libconfer.a after $neighbour" both_work_in_go "" "${other[@]}" -l:libconfer.a
  try "Go, fully static, before $neighbour" fully_static_in_go -l:libconfer.a "${other[@]}"
  try "Go, fully static, after $neighbour" fully_static_in_go "${other[@]}" -l:libconfer.a
done
[ -n "$go" ] || echo "SKIP libconfer.a in Go: Go $GO_MINIMUM or newer is not installed"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
