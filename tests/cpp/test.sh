#!/usr/bin/env bash
# Builds and runs the example and the promises of confer.hpp. The promises run as C++17 and C++20,
# and under valgrind if it is installed. Needs `make lib enclave`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly CXX=${CXX:-g++} OUT=build/tests/cpp
command -v "$CXX" >/dev/null || { echo "$CXX is not installed"; exit 77; }
export CONFER_ENCLAVE=${CONFER_ENCLAVE:-$PWD/build/bin/confer-enclave}
export CONFER_ENCLAVE_STATE=${CONFER_ENCLAVE_STATE:-$PWD/build/tests/enclave-state}
mkdir -p "$OUT" "$CONFER_ENCLAVE_STATE"

# Each constant of confer.h is in an enumeration of confer.hpp, under its name. The others have no
# enumeration.
others='OK|TIMEOUT|END|E_.*|NTS|VERSION_.*'
diff <(sed -n 's/^#define CONFER_\([A-Z_]*\) .*/\1/p' include/confer.h | grep -vxE "$others" | sort) \
  <(grep -oE '[a-z_]+ = CONFER_[A-Z_]+' include/confer.hpp |
    awk '{ name = $3; sub(/^CONFER_[A-Z]+_/, "", name); print tolower(name) == $1 ? substr($3, 8) : $0 }' | sort) ||
  { echo "confer.hpp has other constants than confer.h"; exit 1; }

# compile STANDARD SOURCE PROGRAM
compile() {
  "$CXX" "-std=c++$1" -Wall -Wextra -Wpedantic -Werror -O1 -g -Iinclude "$2" -o "$3" -Lbuild/lib -lconfer -pthread \
    -Wl,-rpath,"$PWD/build/lib"
}

# The program at the top of confer.hpp compiles.
sed -n '/^\/\/     #include <confer.hpp>/,/^\/\/     }$/s|^// \{0,5\}||p' include/confer.hpp >"$OUT/hello.cpp"
compile 17 "$OUT/hello.cpp" "$OUT/hello"

compile 17 examples/cpp/chat.cpp "$OUT/chat"
coproc ENCLAVE { exec "$CONFER_ENCLAVE" --exit-with-stdin --state "$CONFER_ENCLAVE_STATE"; }
read -r started <&"${ENCLAVE[0]}"
of() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" <<<"$started"; }
answer=$(CONFER_TOKEN=$(of token) "$OUT/chat" --url "$(of url)" --policy "$(of policy)" "hello there" 2>"$OUT/chat.log") ||
  { cat "$OUT/chat.log"; exit 1; }
exec {ENCLAVE[1]}>&-
wait "$ENCLAVE_PID" || true
[[ $answer == "You said: hello there" ]] || { echo "the example answered: $answer"; exit 1; }
echo "example: $answer"

for standard in 17 20; do
  compile $standard tests/cpp/promises.cpp "$OUT/promises$standard"
  echo "C++$standard"
  "$OUT/promises$standard"
done

if command -v valgrind >/dev/null; then
  echo "C++17 under valgrind"
  # Statics of the library are reachable through inner pointers, which valgrind reports as possibly
  # lost.
  valgrind --quiet --child-silent-after-fork=yes --leak-check=full --show-leak-kinds=definite,indirect \
    --errors-for-leak-kinds=definite,indirect --error-exitcode=9 "$OUT/promises17"
else
  echo "SKIP C++ under valgrind: valgrind is not installed"
fi
