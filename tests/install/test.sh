#!/usr/bin/env bash
# Builds programs with the files of `make install`: shared and static, with pkg-config, in another
# folder.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v pkg-config >/dev/null 2>&1 || { echo "pkg-config is not installed"; exit 77; }

into=$(mktemp -d)
trap 'rm -rf "$into"' EXIT
make --no-print-directory install DESTDIR="$into" PREFIX=/usr >/dev/null 2>"$into/log" || { cat "$into/log"; exit 1; }

export PKG_CONFIG_PATH=$into/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$into
export PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
cat > "$into/version.c" <<'C'
#include <confer.h>
#include <stdio.h>
int main(void) {
    confer_policy *policy = NULL;
    confer_error *error = NULL;
    if (confer_version_number() != CONFER_VERSION_NUMBER) return 1;
    if (confer_policy_production(&policy, &error) != CONFER_OK) return 2;
    printf("%s %s\n", confer_version_string(), confer_policy_name(policy, NULL));
    confer_policy_free(policy);
    return 0;
}
C
passed=0
expect() { # NAME WANTED FOUND
  if [ "$2" = "$3" ]; then passed=$((passed + 1)); echo "ok: $1"; else echo "FAILED: $1: expected '$2', found '$3'"; exit 1; fi
}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
cc=${CC:-cc}

$cc -Wall -Werror "$into/version.c" $(pkg-config --cflags --libs confer) -o "$into/shared"
expect "a program links the shared library" "$version confer-production" \
  "$(LD_LIBRARY_PATH=$into/usr/lib "$into/shared")"

# Links the archive itself, with the libraries that confer.pc lists.
libs=$(pkg-config --static --libs confer | sed "s|-lconfer|$into/usr/lib/libconfer.a|")
$cc -Wall -Werror "$into/version.c" $(pkg-config --cflags confer) $libs -o "$into/static"
expect "a program links the static library" "$version confer-production" "$("$into/static")"
expect "the static program needs no libconfer.so" "" "$(ldd "$into/static" | grep -o libconfer || true)"
expect "loader and linker find their links" \
  "libconfer.so.0 libconfer.so.$version" \
  "$(readlink "$into/usr/lib/libconfer.so") $(readlink "$into/usr/lib/libconfer.so.0")"
size=$(stat -c %s "$into/usr/lib/libconfer.so.$version")
echo "libconfer.so: $size bytes stripped"
echo "$passed passed, 0 failed"
