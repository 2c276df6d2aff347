#!/usr/bin/env bash
# Checks what scripts/cross built: that each library exports the functions of the header and nothing
# else, and needs nothing but the system; and runs tests/cross/promises.c against the local enclave
# where this machine can run the target. Also compiles the examples for each target but iOS, and runs them
# where it can. `tests/cross/test.sh TARGET…` checks only these targets.
#
# Another enclave: CONFER_ENCLAVE.
set -uo pipefail
cd "$(dirname "$0")/../.."
source scripts/cross-settings

OUT=$(mktemp -d)
CONFER_ENCLAVE_STATE=$OUT/state
source tests/enclave.sh
[[ -x $CONFER_ENCLAVE ]] || { echo "$CONFER_ENCLAVE is missing: make enclave"; exit 1; }
# Wine's server writes into its folder for a while after the last program.
trap '[[ ! -d $OUT/wine ]] || /usr/lib/wine/wineserver64 --kill; rm -rf "$OUT"' EXIT
C=(-std=c11 -Wall -Wextra -Wpedantic -Werror -O1 -g -D_POSIX_C_SOURCE=200809L -Iinclude tests/cross/promises.c)
C_PROGRAMS=(statuses input connect callbacks streams reentrancy pull cancel free slow cache clients requests writes tools
            reconnect watch secrets)
# qemu changes the meaning of limits and of filters of system calls. Other programs replace functions
# of the C library, which a fully static program cannot.
NATIVE_PROGRAMS=(descriptors sandbox threads)
head -c 3000000 /dev/urandom >"$OUT/document"

passed=0 failed=0
try() { # name, command…
  local name=$1
  shift
  if "$@" >"$OUT/log" 2>&1; then passed=$((passed + 1)) && echo "ok: $name"; else
    failed=$((failed + 1))
    echo "FAILED: $name"
    sed 's/^/    /' "$OUT/log" | head -${LINES_SHOWN:-20}
  fi
}

# ---- symbols --------------------------------------------------------------------------------------

listed() { sed '/^#/d; s/ .*//' docs/symbols-in-versions | LC_ALL=C sort; }
# The exported names of a library in any format; Apple's have an underscore in front.
exported() {
  case $1 in
    *.so) llvm-nm --dynamic --defined-only --format=just-symbols "$1" ;;
    *.dll) llvm-readobj --coff-exports "$1" | sed -n 's/^ *Name: //p' ;;
    *.dylib) llvm-nm --extern-only --defined-only --format=just-symbols "$1" | sed 's/^_//' ;;
  esac | LC_ALL=C sort
}
defined() { llvm-nm --extern-only --defined-only --format=just-symbols "$1" 2>/dev/null | sed '/:$/d; /^$/d; s/^_\(confer_\)/\1/' | LC_ALL=C sort -u; }
exports_the_header() { diff <(listed) <(exported "$1"); }
# A static library that exports nothing else lives beside others; the weak DW.ref.* are shared.
defines_only_the_header() { diff <(listed) <(defined "$1" | grep -v '^DW\.ref\.'); }
defines_the_header() { LC_ALL=C comm -23 <(listed) <(defined "$1") | { ! grep .; }; }
# An import library has for each function its stub and its pointer.
imports_the_header() { diff <(listed) <(defined "$1" | sed -n 's/^__imp_//p'); }

# Makes $OUT/neighbour.a, a second static library in Rust with the same standard library and aws-lc: ours
# with the names that cargo gave it, and with other names of its functions.
neighbour() { # folder in build/cross, what is in front of C's names
  { awk '{print $2, $1}' "build/cross/$1/renames" && listed | sed "s/.*/$2& $2other_&/"; } >"$OUT/renames" &&
    llvm rust-objcopy --redefine-syms="$OUT/renames" "build/cross/$1/lib/libconfer.a" "$OUT/neighbour.a"
}
# The names that our library and that one share are those of imports and of the compiler's functions.
readonly SHARED='___chkstk_ms|__[a-z0-9]+|fm(ax|in)imumf?|lgammaf?_r|roundevenf?|.*_imports_lib_iname|_head_.*|(__imp_|\.refptr\.).*'
shares_no_name() { # folder in build/cross
  defined "$OUT/neighbour.a" >"$OUT/names" && [[ $(grep -cE '^_?(_R|_ZN|aws_lc)' "$OUT/names") -gt 1000 ]] &&
    ! LC_ALL=C comm -12 "$OUT/names" <(defined "build/cross/$1/lib/libconfer.a") |
      LC_ALL=C comm -23 - <(sed -n 's/^__imp_//p' "$OUT/names" | LC_ALL=C sort) | grep -Evx "$SHARED"
}

# ---- running --------------------------------------------------------------------------------------

# In a subshell, because start_enclave exits if it fails.
keep_promises() ( # command…
  start_enclave
  "$@" "$url" "$token" "$policy" "$OUT/document"
  status=$?
  stop_enclave
  exit $status
)

# Compares the enclave's hash of the uploaded file, too.
run() { # name, command…
  local name=$1
  shift
  try "$name" keep_promises "$@"
  sed -n 's/\r$//; /ok$/p' "$OUT/log" | tee "$OUT/kept"
  try "$name: the enclave received the file as it is" grep -q "SHA-256 $(sha256sum "$OUT/document" | cut -d' ' -f1)" "$OUT/kept"
}

needs_at_most_glibc() { # version, file
  local newest
  newest=$(llvm-readelf --version-info "$2" | grep -o 'GLIBC_[0-9.]*' | sort --version-sort --unique | tail -1)
  echo "needs $newest"
  [[ $(printf '%s\nGLIBC_%s\n' "$newest" "$1" | sort --version-sort | tail -1) == "GLIBC_$1" ]]
}
needs_only() { # pattern of libraries, file
  llvm-readelf --dynamic-table "$2" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | tee "$OUT/needed"
  [[ -s $OUT/needed ]] && ! grep -Evx "$1" "$OUT/needed"
}

# ---- examples -------------------------------------------------------------------------------------

# Compiles each example into $OUT/examples/NAME.
examples() { # target, compiler, options of the linker…
  local source
  mkdir -p "$OUT/examples"
  for source in examples/c/*.c; do
    "$2" -std=c11 -Wall -Wextra -Wpedantic -Werror -O1 -Iinclude "$source" -o "$OUT/examples/$(basename "$source" .c)" "${@:3}" ||
      return 1
  done
}
compile_examples() { try "$1: the examples link" examples "$@"; }

# Runs them as `make demo-all` does.
run_examples() { # target, command that runs a program…
  local program
  mkdir -p "$OUT/run"
  for program in "$OUT"/examples/*; do
    printf '#!/bin/bash\nset -o pipefail\n%s %s "$@" | sed -u "s/\\r$//"\n' "${*:2}" "$program" >"$OUT/run/$(basename "$program" .exe)"
  done
  chmod +x "$OUT/run"/*
  try "$1: the examples run" env CONFER_EXAMPLES="$OUT/run" scripts/demo-all
}

# The programs of tests/c, which count the promises that they keep.
c_programs() { # target, programs…
  try "$1: programs of tests/c" env CC="$PWD/scripts/zig-cc" LIB_DIR="build/cross/$1/lib" \
    tests/c/test.sh "${@:2}"
  cat "$OUT/log"
}

# ---- other languages ------------------------------------------------------------------------------

# Builds Go's example with a library for the target. Zig has no -l:libconfer.a, and with -static finds
# libconfer.a by -lconfer.
go_example() { # GOOS, GOARCH, C compiler, folder of the library, its further options, output, further tags, options of go build…
  (cd bindings/go && GOOS=$1 GOARCH=$2 CC=$3 GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_ENABLED=1 \
    CGO_CFLAGS="-O2 -I$OLDPWD/include" CGO_LDFLAGS="-L$4 $5" "$(find_go)" build -tags "confer_shared${7:+,$7}" "${@:8}" -o "$6" ./examples/chat)
}
# The answer without the carriage returns that C++ writes on Windows.
plainly() { "$@" | tr -d '\r'; }
# Asks with an example of chat in any language.
receives_an_answer() ( answers "the program" "You said: hello there" plainly "$@" --url @URL --policy @POLICY "hello there" ) # command…

# ---- targets --------------------------------------------------------------------------------------

linux_glibc() { # cpu, command that runs a program
  local target=$1-linux-gnu lib=build/cross/$1-linux-gnu/lib
  try "$target: libconfer.so exports the header's functions" exports_the_header "$lib/libconfer.so"
  try "$target: libconfer.a exports the header's functions" defines_only_the_header "$lib/libconfer.a"
  try "$target: libconfer.so runs with glibc $GLIBC" needs_at_most_glibc "$GLIBC" "$lib/libconfer.so"
  try "$target: libconfer.so needs the system only" \
    needs_only 'lib(c|m|gcc_s|pthread|dl|rt|util)\.so\.[0-9]+|ld-linux.*\.so\.[0-9]+' "$lib/libconfer.so"
  use_zig "$target.$GLIBC"
  try "$target: a program links libconfer.so" scripts/zig-cc "${C[@]}" -o "$OUT/shared" -L"$lib" -lconfer -Wl,-rpath,"$PWD/$lib"
  run "$target: a program with libconfer.so keeps the promises" "${@:2}" "$OUT/shared"
  try "$target: a program links libconfer.a" scripts/zig-cc "${C[@]}" -o "$OUT/static" "$lib/libconfer.a" -lunwind -lpthread -lm -ldl
  run "$target: a program with libconfer.a keeps the promises" "${@:2}" "$OUT/static"
  compile_examples "$target" scripts/zig-cc -L"$lib" -lconfer -lm -pthread -Wl,-rpath,"$PWD/$lib"
  run_examples "$target" "${@:2}"
}
x86_64-linux-gnu() { linux_glibc x86_64; }
aarch64-linux-gnu() {
  local -r qemu=(qemu-aarch64 -L /usr/aarch64-linux-gnu)
  local -r lib=$PWD/build/cross/aarch64-linux-gnu/lib
  linux_glibc aarch64 "${qemu[@]}"
  try "aarch64-linux-gnu: a Go program links libconfer.so" go_example linux arm64 "$PWD/scripts/zig-cc" "$lib" "-Wl,-rpath,$lib" "$OUT/chat"
  try "aarch64-linux-gnu: the Go program receives an answer" receives_an_answer "${qemu[@]}" "$OUT/chat"
  RUNNER="${qemu[*]}" c_programs aarch64-linux-gnu "${C_PROGRAMS[@]}"
}

x86_64-linux-musl() {
  local lib=$PWD/build/cross/x86_64-linux-musl/lib
  is_static() { llvm-readelf --program-headers --dynamic-table "$1" >"$OUT/headers" && grep LOAD "$OUT/headers" &&
    ! grep -E 'INTERP|NEEDED' "$OUT/headers"; }
  try "x86_64-linux-musl: libconfer.a exports the header's functions" defines_only_the_header "$lib/libconfer.a"
  use_zig x86_64-linux-musl
  try "x86_64-linux-musl: a C program links libconfer.a" scripts/zig-cc "${C[@]}" -static -o "$OUT/static" "$lib/libconfer.a" -lunwind
  try "x86_64-linux-musl: the C program is fully static" is_static "$OUT/static"
  run "x86_64-linux-musl: the C program keeps the promises" "$OUT/static"
  RUNNER=env LINK="-static $lib/libconfer.a -lunwind" c_programs x86_64-linux-musl "${C_PROGRAMS[@]}" "${NATIVE_PROGRAMS[@]}"
  compile_examples x86_64-linux-musl scripts/zig-cc -static "$lib/libconfer.a" -lunwind
  run_examples x86_64-linux-musl
  try "x86_64-linux-musl: a Go program links libconfer.a" go_example linux amd64 "$PWD/scripts/zig-cc" "$lib" "" "$OUT/chat" \
    netgo,osusergo -ldflags '-linkmode external -extldflags "-static -lunwind"'
  try "x86_64-linux-musl: the Go program is fully static" is_static "$OUT/chat"
  try "x86_64-linux-musl: the Go program receives an answer" receives_an_answer "$OUT/chat"
}

x86_64-windows() {
  local lib=build/cross/x86_64-windows/lib cc=x86_64-w64-mingw32-gcc-posix
  system_dlls_only() { llvm-readobj --coff-imports "$1" | sed -n 's/^ *Name: //p' | sort -u | tee "$OUT/needed"
    [[ -s $OUT/needed ]] && ! grep -Evix "$WINDOWS_DLLS" "$OUT/needed"; }
  try "x86_64-windows: confer.dll exports the header's functions" exports_the_header "$lib/confer.dll"
  try "x86_64-windows: libconfer.dll.a imports the header's functions" imports_the_header "$lib/libconfer.dll.a"
  try "x86_64-windows: libconfer.a defines the header's functions" defines_the_header "$lib/libconfer.a"
  try "x86_64-windows: confer.dll needs the system only" system_dlls_only "$lib/confer.dll"
  try "x86_64-windows: a program links confer.dll" "$cc" "${C[@]}" -o "$OUT/shared.exe" "$lib/libconfer.dll.a" -static
  # shellcheck disable=SC2086 # a list of words
  try "x86_64-windows: a program links libconfer.a" "$cc" -DCONFER_STATIC "${C[@]}" -o "$OUT/static.exe" "$lib/libconfer.a" -static $WINDOWS_LIBS
  try "x86_64-windows: the names of a second static library in Rust are free" eval 'neighbour x86_64-windows "" && shares_no_name x86_64-windows'
  # shellcheck disable=SC2086 # a list of words
  try "x86_64-windows: a program links libconfer.a and that library" "$cc" -DCONFER_STATIC "${C[@]}" -o "$OUT/beside.exe" \
    -Wl,-u,other_confer_connect "$OUT/neighbour.a" "$lib/libconfer.a" -static $WINDOWS_LIBS
  cp "$lib/confer.dll" "$OUT/"
  # Debian 12's wine lacks a DLL that Rust's standard library asks for random numbers.
  x86_64-w64-mingw32-gcc -shared -o "$OUT/bcryptprimitives.dll" tests/cross/bcryptprimitives.c -ladvapi32
  export WINEPREFIX=$OUT/wine WINEDEBUG=-all WINEDLLOVERRIDES='mscoree,mshtml=;bcryptprimitives=n'
  run "x86_64-windows: a program with confer.dll keeps the promises" /usr/lib/wine/wine64 "$OUT/shared.exe"
  run "x86_64-windows: a program with libconfer.a keeps the promises" /usr/lib/wine/wine64 "$OUT/static.exe"
  run "x86_64-windows: a program with both keeps the promises" /usr/lib/wine/wine64 "$OUT/beside.exe"
  compile_examples x86_64-windows "$cc" "$lib/libconfer.dll.a" -static
  WINEPATH=$OUT run_examples x86_64-windows /usr/lib/wine/wine64
  try "x86_64-windows: a C++ program links confer.dll" x86_64-w64-mingw32-g++-posix -std=c++17 -Wall -Wextra -Wpedantic -Werror -O1 \
    -Iinclude examples/cpp/chat.cpp -o "$OUT/chat-cpp.exe" "$lib/libconfer.dll.a" -static
  try "x86_64-windows: the C++ program receives an answer" receives_an_answer /usr/lib/wine/wine64 "$OUT/chat-cpp.exe"
  try "x86_64-windows: a Go program links confer.dll" go_example windows amd64 "$cc" "$PWD/$lib" "" "$OUT/chat-go.exe"
  try "x86_64-windows: the Go program receives an answer" receives_an_answer /usr/lib/wine/wine64 "$OUT/chat-go.exe"
}

# ---- Apple: nothing can run here, so programs are only linked ---------------------------------------

load_commands() { llvm-objdump --macho --arch="$2" --private-headers "$1" 2>/dev/null; } # file, CPU
has_cpus() { [[ $("$LIPO" -archs "$1" | tr ' ' '\n' | sort | xargs) == "${*:2}" ]]; } # file, CPUs in order
cpu_exports_the_header() { "$LIPO" -thin "$2" -output "$OUT/thin.dylib" "$1" && exports_the_header "$OUT/thin.dylib"; } # file, CPU
cpu_defines_the_header() { "$LIPO" -thin "$2" -output "$OUT/thin.a" "$1" && defines_the_header "$OUT/thin.a"; }
dylib_is_installable() { # file, CPU
  load_commands "$1" "$2" >"$OUT/commands"
  named() { grep -A2 "cmd $1" "$OUT/commands" | sed -n 's/^ *name \(.*\) (.*/\1/p' | sort; }
  diff <(named LC_ID_DYLIB) - <<<'@rpath/libconfer.0.dylib' &&
    diff <(named LC_LOAD_DYLIB) <(printf '%s\n' "${MACOS_LIBRARIES[@]}") &&
    grep -A4 'cmd LC_BUILD_VERSION' "$OUT/commands" | grep "minos $MACOS" && grep LC_CODE_SIGNATURE "$OUT/commands"
}
readonly MACOS_LIBRARIES=(/System/Library/Frameworks/CoreFoundation.framework/Versions/A/CoreFoundation
                          /System/Library/Frameworks/Security.framework/Versions/A/Security
                          /usr/lib/libSystem.B.dylib)

# Links tests/cross/promises.c, or $SOURCE, against the folder that stands for Apple's SDK.
links() { # Zig's target, CPU, platform, its oldest version, options of the linker…
  local sdk=$OUT/sdk-$3
  use_zig "$1"
  export CONFER_ZIG_INCLUDE
  CONFER_ZIG_INCLUDE=$(dirname "$CONFER_ZIG")/lib/libc/include/any-darwin-any
  [[ -d $sdk ]] || scripts/apple-sdk "$sdk" "$3" build/cross/macos-arm64/lib/libconfer.a || return 1
  scripts/zig-cc -std=c11 -Wall -Wextra -Wpedantic -Werror -Iinclude -c "${SOURCE:-tests/cross/promises.c}" -o "$OUT/promises.o" &&
    llvm rust-lld -flavor darwin -arch "$2" -platform_version "$3" "$4" "$4" -syslibroot "$sdk" "$OUT/promises.o" "${@:5}" \
      -lSystem -framework Security -framework CoreFoundation -o "$OUT/linked"
}

links_examples() { # arguments of links
  local SOURCE
  for SOURCE in examples/c/*.c; do links "$@" || return 1; done
}

# Loads the whole of a library and of a second one in Rust, in both orders.
lives_beside() { # folder in build/cross, library, then as for links
  neighbour "$1" _ && shares_no_name "$1" && links "${@:3}" -force_load "$2" -force_load "$OUT/neighbour.a" &&
    links "${@:3}" -force_load "$OUT/neighbour.a" -force_load "$2"
}
# Without these tables, a panic in the library would end the process.
unwinds() { [[ $(llvm-dwarfdump --eh-frame "$OUT/linked" | tee "$OUT/tables" | grep -c 'LSDA Address') -gt 1000 ]] || { tail -3 "$OUT/tables"; false; }; }

macos() {
  local lib=build/cross/macos/lib cpu zig
  try "macos: libconfer.0.dylib is for both CPUs" has_cpus $lib/libconfer.0.dylib arm64 x86_64
  try "macos: libconfer.a is for both CPUs" has_cpus $lib/libconfer.a arm64 x86_64
  for cpu in arm64 x86_64; do
    zig=${cpu/arm64/aarch64}-macos.$MACOS
    try "macos, $cpu: libconfer.0.dylib exports the header's functions" cpu_exports_the_header $lib/libconfer.0.dylib $cpu
    try "macos, $cpu: libconfer.a defines the header's functions" cpu_defines_the_header $lib/libconfer.a $cpu
    try "macos, $cpu: install name, system libraries, oldest system, signature" dylib_is_installable $lib/libconfer.0.dylib $cpu
    try "macos, $cpu: a program links libconfer.dylib" links "$zig" $cpu macos $MACOS $lib/libconfer.dylib
    try "macos, $cpu: a program links libconfer.a" links "$zig" $cpu macos $MACOS $lib/libconfer.a
    try "macos, $cpu: a program loads the whole of libconfer.a" links "$zig" $cpu macos $MACOS -force_load $lib/libconfer.a
    try "macos, $cpu: the program has the tables for unwinding" unwinds
    try "macos, $cpu: a program loads it and a second static library in Rust" \
      lives_beside macos-$cpu $lib/libconfer.a "$zig" $cpu macos $MACOS
    try "macos, $cpu: the examples link" links_examples "$zig" $cpu macos $MACOS $lib/libconfer.dylib
  done
}

ios() {
  local framework=build/cross/Confer.xcframework device simulator cpu
  device=$framework/ios-arm64 simulator=$framework/ios-arm64_x86_64-simulator
  try "ios: Confer.xcframework is as Xcode expects it" tests/cross/xcframework.py $framework build/dist/Confer.xcframework.zip \
    "$IOS" "$MACOS"
  try "ios: the framework defines the header's functions" defines_the_header $device/CConfer.framework/CConfer
  try "ios: a program links the framework" links "aarch64-ios.$IOS" arm64 ios "$IOS" -F$device -framework CConfer
  try "ios: a program loads the whole of it" \
    links "aarch64-ios.$IOS" arm64 ios "$IOS" -force_load $device/CConfer.framework/CConfer
  try "ios: the program has the tables for unwinding" unwinds
  try "ios: a program loads it and a second static library in Rust" \
    lives_beside ios-arm64 $device/CConfer.framework/CConfer "aarch64-ios.$IOS" arm64 ios "$IOS"
  for cpu in arm64 x86_64; do
    try "ios simulator, $cpu: the framework defines the header's functions" \
      cpu_defines_the_header $simulator/CConfer.framework/CConfer $cpu
    try "ios simulator, $cpu: a program links the framework" \
      links "${cpu/arm64/aarch64}-ios.$IOS-simulator" $cpu ios-simulator 14.0 -F$simulator -framework CConfer
    try "ios simulator, $cpu: a program loads it and a second static library in Rust" \
      lives_beside ios-simulator-$cpu $simulator/CConfer.framework/CConfer "${cpu/arm64/aarch64}-ios.$IOS-simulator" $cpu ios-simulator 14.0
  done
}

cross_main "$@"
echo "$passed passed, $failed failed"
[[ $failed == 0 ]]
