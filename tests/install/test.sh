#!/usr/bin/env bash
# Builds and runs programs outside the tree with what `make install` and `make deb` give. Each program
# asks the local enclave.
#
# Needs what `make lib enclave` builds.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/tools
for tool in pkg-config cmake python3; do
  command -v $tool >/dev/null 2>&1 || { echo "$tool is not installed"; exit 77; }
done

cc=${CC:-cc}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
into=$(mktemp -d)
trap 'rm -rf "$into"' EXIT
CONFER_ENCLAVE_STATE=$into/state
source tests/enclave.sh
unset PKG_CONFIG_PATH CMAKE_PREFIX_PATH LD_LIBRARY_PATH

passed=0
expect() { # NAME WANTED FOUND
  if [ "$2" = "$3" ]; then passed=$((passed + 1)); echo "ok: $1"; else echo "FAILED: $1: expected '$2', found '$3'"; exit 1; fi
}
# Shows the output of a command only if it fails.
quiet() { "$@" >"$into/log" 2>&1 || { tail -40 "$into/log"; echo "FAILED: $*"; exit 1; }; }

asks() { with_enclave "$@" 2>"$into/log" || { cat "$into/log"; exit 1; }; }
answer="You said: Hello!"
needs() { readelf --dynamic "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'; }
hello() { # NAME PROGRAM LIBRARY: runs a build of hello.c that needs libconfer.so.0, or no such library
  expect "$1" "$answer" "$(asks "$2" @URL @POLICY)"
  expect "$1: its libconfer" "$3" "$(needs "$2" | grep libconfer || true)"
}
# Copies the examples, so that no path into the tree is left.
copy_examples() { rm -rf "$into/examples" && cp -r examples "$into/"; }

# ---- make install --------------------------------------------------------------------------------

prefix=$into/prefix
copy_examples
quiet make --no-print-directory install PREFIX="$prefix"
expect "loader and linker find their links" \
  "libconfer.so.0 libconfer.so.$version" \
  "$(readlink "$prefix/lib/libconfer.so") $(readlink "$prefix/lib/libconfer.so.0")"
echo "libconfer.so: $(stat -c %s "$prefix/lib/libconfer.so.$version") bytes stripped"

export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
quiet make -C "$into/examples/pkg-config"
hello "a Makefile with pkg-config" "$into/examples/pkg-config/hello" libconfer.so.0
hello "the static library with pkg-config" "$into/examples/pkg-config/hello-static" ""
hello "a fully static program with pkg-config" "$into/examples/pkg-config/hello-fully-static" ""
expect "a fully static program needs no library" "" "$(needs "$into/examples/pkg-config/hello-fully-static")"

quiet "${CXX:-c++}" -std=c++17 "$into/examples/cpp/chat.cpp" $(pkg-config --cflags --libs confer) -Wl,-rpath,"$prefix/lib" -o "$into/chat-cpp"
expect "a C++ program" "$answer" "$(asks "$into/chat-cpp" --url @URL --policy @POLICY Hello!)"

if go=$(find_go); then
  quiet env GOTOOLCHAIN=local CGO_LDFLAGS="-Wl,-rpath,$prefix/lib" "$go" -C bindings/go build -tags confer_pkgconfig -o "$into/chat-go" ./examples/chat
  expect "a Go program" "$answer" "$(asks "$into/chat-go" -url @URL -policy @POLICY Hello!)"
else
  echo "SKIP the installed library in Go: Go $GO_MINIMUM or newer is not installed"
fi
unset PKG_CONFIG_PATH

python() { PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=bindings/python/src CONFER_LIBRARY=$prefix/lib/libconfer.so.0 python3 "$@"; }
expect "a Python program" "$answer" "$(asks python bindings/python/examples/chat.py --url @URL --policy @POLICY Hello!)"

# CMake uses the installation in another place, whose path has a space.
mv "$prefix" "$into/another place"
with_cmake() { # PREFIX: builds examples/cmake
  copy_examples
  quiet cmake -S "$into/examples/cmake" -B "$into/examples/build" -DCMAKE_PREFIX_PATH="$1" -DCMAKE_C_FLAGS="-Wall -Werror"
  quiet cmake --build "$into/examples/build"
}
with_cmake "$into/another place"
hello "a CMake project, after the installation moved" "$into/examples/build/hello" libconfer.so.0
hello "the static library with CMake" "$into/examples/build/hello-static" ""

mkdir "$into/find"
found() { # ARGUMENTS of find_package: prints whether it finds the package
  printf '%s\n' 'cmake_minimum_required(VERSION 3.10)' 'project(find C)' "find_package(confer $1 REQUIRED)" >"$into/find/CMakeLists.txt"
  rm -rf "$into/find/build"
  cmake -S "$into/find" -B "$into/find/build" -DCMAKE_PREFIX_PATH="$into/another place" >"$into/log" 2>&1 && echo yes || echo no
}
major=${version%%.*}
expect "CMake finds this version, and refuses newer and incompatible ones" "yes yes yes no no no" \
  "$(found "") $(found "$major") $(found "$version EXACT") $(found "$major.999") $(found $((major + 1))) $(found "$version.1 EXACT")"

# ---- make deb ------------------------------------------------------------------------------------

if ! command -v dh >/dev/null 2>&1; then
  echo "SKIP Debian packages: debhelper is not installed"
else
  quiet scripts/deb
  # A root folder with the machine's list of packages, so that dpkg checks the dependencies.
  # Needs no privileges.
  root=$into/root
  mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates" "$root/var/lib/dpkg/triggers"
  cp /var/lib/dpkg/status "$root/var/lib/dpkg/"
  cp /var/lib/dpkg/arch "$root/var/lib/dpkg/" 2>/dev/null || true
  in_root() { quiet dpkg --root="$root" --force-not-root --force-script-chrootless --no-triggers --log="$root/dpkg.log" "$@"; }
  files() { find "$root/usr" ! -type d 2>/dev/null | wc -l; }
  in_root --install build/deb/libconfer0_*.deb build/deb/libconfer-dev_*.deb
  multiarch=$("$cc" -print-multiarch 2>/dev/null || gcc -print-multiarch)
  lib=$root/usr/lib/$multiarch
  with_cmake "$root/usr"
  hello "the packages, with CMake" "$into/examples/build/hello" libconfer.so.0
  export PKG_CONFIG_LIBDIR=$lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
  quiet "$cc" "$into/examples/c/hello.c" $(pkg-config --cflags --libs confer) -o "$into/hello-deb"
  expect "the packages, with pkg-config" "$answer" "$(LD_LIBRARY_PATH=$lib asks "$into/hello-deb" @URL @POLICY)"
  in_root --remove libconfer-dev
  expect "without libconfer-dev, programs still run" "$answer" "$(LD_LIBRARY_PATH=$lib asks "$into/hello-deb" @URL @POLICY)"
  in_root --purge libconfer0 libconfer-dev
  expect "the packages leave no file" 0 "$(files)"
fi

echo "$passed passed, 0 failed"
