#!/usr/bin/env bash
# The C API as a C program meets it: the header in every dialect, the built library's symbols and needs, and the promises
# of tests/c/*.c, each program plain, with threads that wake late (delays.c), and under valgrind. `tests/c/test.sh NAME…`
# runs only these programs.
#
# Needs what `make lib enclave` builds. Another library or enclave: LIB_DIR, CONFER_ENCLAVE. For another target: CC, LINK
# (the words that link the library), and in RUNNER the command that runs a program, without valgrind and delays.
set -uo pipefail
cd "$(dirname "$0")/../.."

CC=${CC:-cc}
LIB_DIR=$(realpath -m "${LIB_DIR:-build/lib}")
export CONFER_ENCLAVE=${CONFER_ENCLAVE:-build/bin/confer-enclave}
WARNINGS=(-Wall -Wextra -Wpedantic -Werror)
C11=(-std=c11 -D_POSIX_C_SOURCE=200809L "${WARNINGS[@]}" -O1 -g -pthread -Iinclude)
LEAVER=(-D_POSIX_C_SOURCE=200809L "${WARNINGS[@]}" -O1 -g -pthread -Iinclude)
read -ra LINK <<<"${LINK:--L$LIB_DIR -lconfer -Wl,-rpath,$LIB_DIR}"
PROGRAMS=(statuses input connect callbacks streams reentrancy pull cancel free slow cache clients requests writes tools
          reconnect watch clock secrets forks starved workers descriptors)
# Not under valgrind, which has its own signal masks and makes system calls that these refuse.
PLAIN=(sandbox threads shortage)
# Programs that run against each server that the enclave stands for. The others run against the newer one.
EACH_SERVER=(requests writes)
# 99 is no status of the programs: it says that valgrind found something. Inlined frames would bury the others.
VALGRIND=(valgrind --quiet --error-exitcode=99 --child-silent-after-fork=yes --keep-debuginfo=yes --num-callers=40
          --read-inline-info=no)
LEAKS=(--leak-check=full --suppressions=tests/c/valgrind.supp)

for file in "$LIB_DIR/libconfer.a" "$CONFER_ENCLAVE"; do
  [ -e "$file" ] || { echo "$file is missing: make lib enclave"; exit 1; }
done
OUT=$(mktemp -d)
export CONFER_ENCLAVE_STATE=$OUT/state CONFER_PLUGIN=$OUT/plugin.so
mkdir "$CONFER_ENCLAVE_STATE"
# The promises that were kept, for tests/languages.
KEPT=$OUT/kept
[ $# -gt 0 ] || { KEPT=build/tests/c/tests.log && mkdir -p build/tests/c && : >"$KEPT"; }
trap 'rm -rf "$OUT"' EXIT

passed=0 failed=0
ok() { passed=$((passed + 1)); }
# Runs a command as one test; its output is shown if it fails.
try() {
  local name=$1
  shift
  if "$@" >"$OUT/log" 2>&1; then ok; else
    failed=$((failed + 1))
    echo "FAILED: $name"
    sed 's/^/    /' "$OUT/log" | head -100
  fi
}

# ---- the header, in every dialect -------------------------------------------------------------------------------------

compiles() { "$1" -std="$2" "${WARNINGS[@]}" -Iinclude -fsyntax-only -x "$3" -; }
in_dialects() { # language, compiler, header, dialects…
  local language=$1 compiler=$2 header=$3 dialect
  shift 3
  command -v "$compiler" >/dev/null || { echo "SKIP $header with $compiler: it is not installed"; return; }
  for dialect in "$@"; do
    try "$header as $dialect by $compiler" compiles "$compiler" "$dialect" "$language" <<<"#include <$header>"
    try "$header twice, as $dialect by $compiler" compiles "$compiler" "$dialect" "$language" \
      <<<"#include <$header>"$'\n'"#include <$header>"
  done
}

the_header_compiles() {
  local compiler
  for compiler in gcc clang; do in_dialects c $compiler confer.h c99 c11 c17; done
  for compiler in g++ clang++; do
    in_dialects c++ $compiler confer.h c++11 c++17 c++20
    [ ! -e include/confer.hpp ] || in_dialects c++ $compiler confer.hpp c++17 c++20
  done
}

# A call that ignores its status is a warning, unless the application defines CONFER_MUST_USE empty.
ignored_status_warns() { # compiler, language, dialect
  local source=$'#include <confer.h>\nvoid end(confer_client *client) { confer_close(client, 0, NULL); }'
  local compile=("$1" -std="$3" "${WARNINGS[@]}" -Iinclude -c -o "$OUT/ignored.o" -x "$2")
  "${compile[@]}" -DCONFER_MUST_USE= - <<<"$source" || return 1
  ! "${compile[@]}" - <<<"$source" && [[ $("${compile[@]}" - 2>&1 <<<"$source") == *-Werror*unused-result* ]]
}

# The program that the header begins with, as it stands there.
getting_started() {
  sed -n '/^ \*     #include <confer.h>$/,/^ \*     }$/s/^ \*     \{0,1\}//p' include/confer.h >"$OUT/hello.c"
  grep -q 'int main' "$OUT/hello.c" && "$CC" "${C11[@]}" "$OUT/hello.c" -o "$OUT/hello" "${LINK[@]}" || return 1
  env -u CONFER_TOKEN "$OUT/hello" 2>"$OUT/hello.err" # without a token it ends with an error that names it
  [ $? -eq 1 ] && grep -q token "$OUT/hello.err"
}

# ---- the built library ------------------------------------------------------------------------------------------------

exported() { nm -D --defined-only "$LIB_DIR/libconfer.so" | awk '{print $3}' | LC_ALL=C sort; }
listed() { sed '/^#/d; s/ .*//' docs/symbols-in-versions | LC_ALL=C sort; }
called() { grep -o '\bconfer_[a-z0-9_]*\b' | LC_ALL=C sort -u; }
declared() { grep -o '\bconfer_[a-z0-9_]*(' include/confer.h | tr -d '(' | LC_ALL=C sort -u; }
exports_are_listed() { [ "$(exported | wc -l)" -gt 50 ] && diff <(listed) <(exported); }
exports_are_called() { LC_ALL=C comm -23 <(listed) <(cat tests/c/*.[ch] | called) | { ! grep .; }; }
exports_are_declared() { comm -13 <(declared) <(exported) | { ! grep .; }; }
every_version_is_named() { ! sed '/^#/d' docs/symbols-in-versions | grep -Evx 'confer_[a-z0-9_]+ [0-9]+\.[0-9]+\.[0-9]+'; }

dynamic() { readelf -d "$LIB_DIR/libconfer.so" | sed -n "s/.*($1).*\[\(.*\)\]/\1/p"; }
the_soname() { [ "$(dynamic SONAME)" = libconfer.so.0 ]; }
needs_the_system_alone() {
  [ -n "$(dynamic NEEDED)" ] && ! dynamic NEEDED | grep -Evx 'lib(c|m|gcc_s|pthread|dl|rt|util)\.so\.[0-9]+|ld-linux.*\.so\.[0-9]+'
}
no_text_relocation_and_no_executable_stack() {
  ! readelf -d "$LIB_DIR/libconfer.so" | grep TEXTREL >/dev/null &&
    ! readelf -lW "$LIB_DIR/libconfer.so" | grep GNU_STACK | grep RWE >/dev/null
}

# aws-lc's collector of CPU jitter costs a process 40 ms at its first random number (docs/decisions.md). The library keeps
# its symbols until `make install` strips them.
has_no_jitter_entropy() {
  nm "$LIB_DIR/libconfer.so" >"$OUT/symbols" && grep -qi 'rand_bytes' "$OUT/symbols" && ! grep -i 'jent_' "$OUT/symbols"
}

LIBS_PRIVATE=$(sed -n 's/^LIBS_PRIVATE *:= *//p' Makefile)
links_in_every_way() {
  [ -n "$LIBS_PRIVATE" ] || return 1
  "$CC" "${C11[@]}" tests/c/header.c -o "$OUT/shared" "${LINK[@]}" && "$OUT/shared" || return 1
  # shellcheck disable=SC2086 # a list of words
  "$CC" "${C11[@]}" tests/c/connect.c -o "$OUT/static" "$LIB_DIR/libconfer.a" $LIBS_PRIVATE || return 1
  ! readelf -d "$OUT/static" | grep libconfer >/dev/null && "$OUT/static"
}

# ---- the promises -----------------------------------------------------------------------------------------------------

# Counts the promises of one run of a program by the lines that it prints.
run() { # name, command…
  local name=$1 status kept
  shift
  "$@" >"$OUT/log" 2>&1
  status=$?
  kept=$(grep -c '^  .* ok$' "$OUT/log")
  passed=$((passed + kept))
  if [ $status -ne 0 ] || [ "$kept" = 0 ]; then
    failed=$((failed + 1))
    echo "FAILED: $name (exit $status, $kept promises kept)"
    sed 's/^/    /' "$OUT/log" | head -200
  else
    grep '^  .* ok$' "$OUT/log" >>"$KEPT"
    printf '%-28s %d promises kept\n' "$name" "$kept"
  fi
}

statuses() {
  sed -n 's/^#define \(CONFER_\(OK\|TIMEOUT\|END\|E_[A-Z0-9_]*\)\) [0-9]*$/    {\1, "\1"},/p' include/confer.h
}

# The constants of all other enumerations. Version numbers and bits have no name function.
constants() {
  sed -n 's/^#define \(CONFER_[A-Z0-9_]*\) [0-9]*$/\1/p' include/confer.h |
    grep -Evx 'CONFER_(OK|TIMEOUT|END|E_.*|VERSION_.*|ASK_.*)' | sed 's/.*/    {&, "&"},/'
}

keep_promises() {
  local name leaks server servers
  statuses >"$OUT/statuses.inc"
  constants >"$OUT/constants.inc"
  [ -n "${RUNNER:-}" ] || "$CC" "${C11[@]}" -fPIC -shared tests/c/delays.c -o "$OUT/delays.so" -ldl ||
    { failed=$((failed + 1)); return; }
  for name in "$@"; do
    if ! "$CC" "${C11[@]}" -I"$OUT" "tests/c/$name.c" -o "$OUT/$name" "${LINK[@]}"; then
      failed=$((failed + 1))
      continue
    fi
    leaks=("${LEAKS[@]}")
    [ "$name" != workers ] || leaks=(--leak-check=no) # tokio leaks what a dead event loop had registered
    servers=(newer)
    [[ " ${EACH_SERVER[*]} " != *" $name "* ]] || servers=(0.1.14 newer)
    for server in "${servers[@]}"; do
      export CONFER_ENCLAVE_SERVER=$server
      # shellcheck disable=SC2086 # a list of words
      run "$name, $server" ${RUNNER:-} "$OUT/$name"
      [ -n "${RUNNER:-}" ] || run "$name, $server, delays" env LD_PRELOAD="$OUT/delays.so" "$OUT/$name"
      [ -z "$with_valgrind" ] || [[ " ${PLAIN[*]} " == *" $name "* ]] ||
        run "$name, $server, valgrind" "${VALGRIND[@]}" "${leaks[@]}" "$OUT/$name"
    done
  done
}

keep_promises_of_vectors() {
  [ -e /usr/include/cjson/cJSON.h ] || { echo 'SKIP vectors: cJSON is not installed (libcjson-dev)'; return; }
  "$CC" "${C11[@]}" tests/c/vectors.c -o "$OUT/vectors" "${LINK[@]}" -lcjson || { failed=$((failed + 1)); return; }
  local files
  mapfile -t files < <(find tests/vectors -maxdepth 1 -name '*.json' ! -name schema.json | LC_ALL=C sort)
  run vectors "$OUT/vectors" "${files[@]}"
  [ -z "$with_valgrind" ] || run 'vectors, valgrind' "${VALGRIND[@]}" "${LEAKS[@]}" "$OUT/vectors" "${files[@]}"
}

# Programs that end while the library connects, in C and C++, linked with the shared and the static library. The
# code that runs at the end is in the program, or in a library that the loader ends after libconfer.
keep_promises_of_leaving() {
  local programs=() language compiler
  for language in c c++; do
    compiler=$CC
    [ $language = c ] || compiler=${CXX:-c++}
    command -v "$compiler" >/dev/null || { echo "SKIP leaving in $language: $compiler is not installed"; continue; }
    "$CC" "${C11[@]}" -fPIC -shared tests/c/leaver_end.c -o "$OUT/libend.so" &&
      "$CC" "${C11[@]}" -c tests/c/leaver_end.c -o "$OUT/end.o" &&
      "$compiler" -x $language "${LEAVER[@]}" -c tests/c/leaver.c -o "$OUT/leaver.o" &&
      "$compiler" "$OUT/leaver.o" "$OUT/end.o" -o "$OUT/shared-$language" "${LINK[@]}" &&
      "$compiler" "$OUT/leaver.o" -o "$OUT/other-$language" "${LINK[@]}" -Wl,--no-as-needed -L"$OUT" -lend -Wl,-rpath,"$OUT" &&
      "$compiler" "$OUT/leaver.o" "$OUT/end.o" -o "$OUT/static-$language" "$LIB_DIR/libconfer.a" $LIBS_PRIVATE ||
      { failed=$((failed + 1)); continue; }
    programs+=("$OUT/shared-$language" "$OUT/other-$language" "$OUT/static-$language")
  done
  CONFER_LEAVERS=$(IFS=:; echo "${programs[*]}")
  export CONFER_LEAVERS
  "$CC" "${C11[@]}" tests/c/leave.c -o "$OUT/leave" "${LINK[@]}" || { failed=$((failed + 1)); return; }
  run leave "$OUT/leave"
}

# Does not search for leaks: Rust's statics have no destructors, so the memory that the library keeps for the life of a
# process (see valgrind.supp) remains after it is unloaded.
keep_promises_of_unloading() {
  "$CC" "${C11[@]}" -fPIC -shared tests/c/plugin.c -o "$CONFER_PLUGIN" "${LINK[@]}" &&
    "$CC" "${C11[@]}" tests/c/unload.c -o "$OUT/unload" || { failed=$((failed + 1)); return; }
  run unload "$OUT/unload"
  [ -z "$with_valgrind" ] || run "unload, valgrind" "${VALGRIND[@]}" --leak-check=no "$OUT/unload"
}

with_valgrind=1
[ -z "${RUNNER:-}" ] || with_valgrind=''
command -v valgrind >/dev/null || { with_valgrind='' && echo 'SKIP valgrind: it is not installed; the programs run plain'; }

if [ "$*" = leave ]; then
  keep_promises_of_leaving
elif [ "$*" = vectors ]; then
  keep_promises_of_vectors
elif [ $# -gt 0 ]; then
  keep_promises "$@"
else
  the_header_compiles
  try 'an ignored status is a warning in C99' ignored_status_warns "$CC" c c99
  ! command -v "${CXX:-c++}" >/dev/null ||
    try 'an ignored status is a warning in C++17' ignored_status_warns "${CXX:-c++}" c++ c++17
  try "the header's first program compiles and runs" getting_started
  try 'the exports are those of docs/symbols-in-versions' exports_are_listed
  try 'the exports are all declared in the header' exports_are_declared
  try 'the exports are all met by a program of tests/c' exports_are_called
  try 'each symbol has the version that added it' every_version_is_named
  try 'the SONAME is libconfer.so.0' the_soname
  try 'the library needs the system alone' needs_the_system_alone
  try 'the library has no text relocation and no executable stack' no_text_relocation_and_no_executable_stack
  try 'the library draws its randomness from the kernel, not from CPU jitter' has_no_jitter_entropy
  try 'programs link shared and static, and run' links_in_every_way
  keep_promises "${PROGRAMS[@]}" "${PLAIN[@]}"
  keep_promises_of_vectors
  keep_promises_of_leaving
  keep_promises_of_unloading
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
