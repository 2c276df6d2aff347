#!/usr/bin/env bash
# Compares confer.hpp with confer.h. Runs README's program, the example, and the promises:
# as C++17 and C++20, with sanitizers if clang is installed, and under valgrind if it is installed.
# Needs `make lib enclave`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tests/enclave.sh

readonly CXX=${CXX:-g++} OUT=build/tests/cpp
rm -f "$OUT/tests.log"
command -v "$CXX" >/dev/null || { echo "$CXX is not installed"; exit 77; }
mkdir -p "$OUT"
: >"$OUT/tests.log"

# Each constant of confer.h is in an enumeration of confer.hpp, under its name. The others have no
# enumeration.
others='OK|TIMEOUT|END|E_.*|NTS|VERSION_.*'
diff <(sed -n 's/^#define CONFER_\([A-Z_]*\) .*/\1/p' include/confer.h | grep -vxE "$others" | sort) \
  <(grep -oE '[a-z_]+ = CONFER_[A-Z_]+' include/confer.hpp |
    awk '{ name = $3; sub(/^CONFER_[A-Z]+_/, "", name); print tolower(name) == $1 ? substr($3, 8) : $0 }' | sort) ||
  { echo "confer.hpp has other constants than confer.h"; exit 1; }

# confer.hpp calls each function of confer.h.
functions=$(sed -nE 's/^[a-z][a-z0-9_ ]*[ *](confer_[a-z0-9_]+)\(.*/\1/p' include/confer.h | sort)
(($(wc -l <<<"$functions") > 190)) || { echo "confer.h has too few functions: $functions"; exit 1; }
unused=$(comm -23 <(cat <<<"$functions") <(grep -v '^ *//' include/confer.hpp | grep -oE '\bconfer_[a-z0-9_]+' | sort -u))
[[ -z $unused ]] || { echo "confer.hpp does not use $unused"; exit 1; }

warnings=(-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wold-style-cast -Werror)

# compile COMPILER STANDARD SOURCE PROGRAM OPTION...
compile() {
  "$1" "-std=c++$2" "${warnings[@]}" -O1 -g -Iinclude "$3" -o "$4" "${@:5}" -Lbuild/lib -lconfer -pthread \
    -Wl,-rpath,"$PWD/build/lib"
}

# README's first program, which is also in the comment at the top of confer.hpp. For the local enclave
# it needs two more settings.
sed -n '/^```cpp$/,/^```$/p' bindings/cpp/README.md | sed '1d; /^```$/,$d' >"$OUT/hello.cpp"
sed -n '/^\/\/     #include <confer.hpp>/,/^\/\/     }$/s|^// \{0,5\}||p' include/confer.hpp | diff "$OUT/hello.cpp" - ||
  { echo "confer.hpp and its README have different programs"; exit 1; }
compile "$CXX" 17 "$OUT/hello.cpp" "$OUT/hello"
sed 's/confer::config()/&.endpoint(std::getenv("CONFER_TEST_URL")).policy(confer::policy::load(std::getenv("CONFER_TEST_POLICY")))/' \
  "$OUT/hello.cpp" >"$OUT/hello-local.cpp"
compile "$CXX" 17 "$OUT/hello-local.cpp" "$OUT/hello-local"
answers "README's program" "You said: Hello!" "$OUT/hello-local"
# README's other programs are parts of one.
{
  printf '%s\n' '#include <confer.hpp>' '#include <iostream>' 'extern const char *schema;' 'std::string sign_in();' \
    'bool accepts(const confer::report &, const confer::report &);' 'std::string time_in(std::string_view);' 'void parts() {'
  awk '/^ *```cpp$/ { part = ++count > 1; next } /^ *```$/ { part = 0 } part' bindings/cpp/README.md
  echo '}'
} >"$OUT/parts.cpp"
"$CXX" -std=c++17 "${warnings[@]}" -Iinclude -fsyntax-only "$OUT/parts.cpp"

compile "$CXX" 17 examples/cpp/chat.cpp "$OUT/chat"
answers "the example" "You said: hello there" "$OUT/chat" --url @URL --policy @POLICY "hello there"

# The header compiles wherever an application includes it, and says what it cannot do without.
compilers=("$CXX")
if command -v clang++ >/dev/null && [[ $CXX != clang++ ]]; then compilers+=(clang++); fi
for compiler in "${compilers[@]}"; do
  for standard in 17 20 2b; do
    "$compiler" "-std=c++$standard" "${warnings[@]}" -Iinclude -DSECOND -c tests/cpp/include.cpp -o "$OUT/second.o"
    compile "$compiler" "$standard" tests/cpp/include.cpp "$OUT/include" -fno-rtti "$OUT/second.o"
    "$OUT/include"
  done
  refused=$("$compiler" -std=c++17 -fno-exceptions -Iinclude -fsyntax-only tests/cpp/include.cpp 2>&1) || true
  refused+=$("$compiler" -std=c++14 -Iinclude -fsyntax-only tests/cpp/include.cpp 2>&1) || true
  [[ $refused == *"confer.hpp reports failures as exceptions"*"confer.hpp needs C++17"* ]] ||
    { echo "$compiler: no clear error without exceptions or C++17: $refused"; exit 1; }
  echo "confer.hpp compiles with $compiler"
done

for standard in 17 20; do
  compile "$CXX" $standard tests/cpp/promises.cpp "$OUT/promises$standard"
  echo "C++$standard"
  "$OUT/promises$standard" | tee "$OUT/tests.log"
done

if command -v clang++ >/dev/null; then
  for standard in 17 20; do
    compile clang++ $standard tests/cpp/promises.cpp "$OUT/promises-sanitized" -fsanitize=address,undefined \
      -fno-sanitize-recover=all
    echo "C++$standard with sanitizers"
    "$OUT/promises-sanitized"
  done
else
  echo "SKIP C++ with sanitizers: clang is not installed"
fi

if [[ -e /usr/include/nlohmann/json.hpp ]]; then
  compile "$CXX" 17 tests/cpp/vectors.cpp "$OUT/vectors"
  mapfile -t vectors < <(find tests/vectors -maxdepth 1 -name '*.json' ! -name schema.json | LC_ALL=C sort)
  "$OUT/vectors" "${vectors[@]}"
else
  echo "SKIP C++ vectors: nlohmann-json3-dev is not installed"
fi

if command -v valgrind >/dev/null; then
  echo "C++17 under valgrind"
  # Statics of the library are reachable through inner pointers, which valgrind reports as possibly
  # lost.
  valgrind --quiet --child-silent-after-fork=yes --leak-check=full --show-leak-kinds=definite,indirect \
    --errors-for-leak-kinds=definite,indirect --error-exitcode=9 "$OUT/promises17"
else
  echo "SKIP C++ under valgrind: valgrind is not installed"
fi
