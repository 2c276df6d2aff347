#!/usr/bin/env bash
# Uses the packages of `make dist` as a newcomer would: runs the commands of their READMEs in a folder
# that has only the packages, and expects the local enclave's answers.
#
# Needs what `make lib enclave` builds.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/tools
for tool in pkg-config cmake python3; do
  command -v $tool >/dev/null 2>&1 || { echo "$tool is not installed"; exit 77; }
done

# In the tree, because Swift may run in a separate folder that shows only the tree.
into=$TREE/build/tests/packages
rm -rf "$into"
mkdir -p "$into"
CONFER_ENCLAVE_STATE=$into/state
source tests/enclave.sh
unset PKG_CONFIG_PATH CMAKE_PREFIX_PATH LD_LIBRARY_PATH PYTHONPATH CONFER_LIBRARY CONFER_WHEEL CONFER_TOKEN CONFER
unset CGO_CFLAGS CGO_LDFLAGS GOFLAGS

passed=0
expect() { # NAME WANTED FOUND
  if [ "$2" = "$3" ]; then passed=$((passed + 1)); echo "ok: $1"; else echo "FAILED: $1: expected '$2', found '$3'"; exit 1; fi
}

status=0
packed=$(scripts/dist) || status=$?
if [ $status = 77 ]; then
  packed=$(CONFER_WHEEL=no scripts/dist)
elif [ $status != 0 ]; then
  exit $status
fi
expect "the packages have their checksums" ok "$(cd build/dist && sha256sum --quiet --check SHA256SUMS && echo ok)"
cp $packed "$into/"
(cd "$into" && tar --extract --file libconfer-*.tar.gz)
archive=$(echo "$into"/libconfer-*/)
archive=${archive%/}
expect "each file in the archive has its checksum" ok "$(cd "$archive" && sha256sum --quiet --check SHA256SUMS && echo ok)"
# Prints the links of a text to files, whose place may differ.
links() { awk 'FNR == 1 { code = 0 } /^ *```/ { code = !code } !code' "$@" | grep -oE '\]\([^)]+' | grep -vE '\((https?:|#)' || true; }
mapfile -t texts < <(find "$archive" -name '*.md')
expect "the archive has its texts" 10 ${#texts[@]}
dead_links() { # TEXT…
  local text link
  for text; do
    while read -r link; do [ -e "$(dirname "$text")/${link%%#*}" ] || echo "$text: $link"; done < <(links "$text" | cut -c3-)
  done
}
expect "they link to files of the archive" "" "$(dead_links "${texts[@]}")"
# Prints the files and targets of the tree that texts name and that a folder does not have. A paragraph may name them if it
# says that they are in the source or in a checkout, and the changelog says so once. The header names its own source.
not_there() { # FOLDER PATTERN…
  python3 - "$@" <<'PY' || echo "the search failed"
import re, sys
from pathlib import Path

folder = Path(sys.argv[1])
have = "".join(f"/{path.relative_to(folder)}\n" for path in folder.rglob("*"))
named = r"(?<![\w/.$}-])(?:bindings|docs|examples|include|packaging|scripts|src|tests)/[\w./-]*\w|`make [a-z]+|\./test\.sh"
texts = [path for pattern in sys.argv[2:] for path in folder.rglob(pattern) if path.name != "CHANGELOG.md"]
assert texts
for text in texts:
    for paragraph in re.split(r"\n[ *#/]*\n", text.read_text()):
        for name in re.findall(named, paragraph):
            elsewhere = re.search(r"\b(checkout|source)\b", paragraph, re.I) or name.startswith("src/ffi/")
            if not elsewhere and f"/{name}\n" not in have:
                print(f"{text.relative_to(folder)}: {name}")
PY
}
expect "they name no file that is only in the source" "" "$(not_there "$archive" '*.md' '*.h' '*.hpp' '*.c' '*.cpp' '*.go' '*.swift' '*.py' '*.supp' '*.pc')"

# ---- the lists of dependencies --------------------------------------------------------------------

# The debug information names the crates whose code is in the library. Crates without functions
# are not in it.
listed() {
  python3 -c 'import json, sys
for part in json.load(open(sys.argv[1]))["components"]: print(part["name"] + "-" + part["version"])' "$archive/share/doc/libconfer/libconfer.cdx.json"
}
linked() { grep -ao '/registry/src/[^/]*/[A-Za-z0-9_-]*-[0-9][0-9a-z.+-]*/' build/lib/libconfer.so | sed 's|.*/\([^/]*\)/$|\1|'; }
listed | LC_ALL=C sort >"$into/listed"
linked | LC_ALL=C sort -u >"$into/linked"
expect "the debug information names crates" yes "$([ "$(wc -l <"$into/linked")" -gt 50 ] && echo yes || echo no)"
expect "the bill of materials lists each crate in the library" "" "$(LC_ALL=C comm -13 "$into/listed" "$into/linked")"
expect "it lists no crate that only builds or tests" "" "$(grep -E '^(prost-build|protox|syn|cbindgen|proptest|cc)-' "$into/listed" || true)"
licences=$archive/share/doc/libconfer/THIRD-PARTY-LICENCES.txt
expect "the licences name each of them" "" \
  "$(grep -v '^Rust ' "$into/listed" | while read -r crate; do grep -qF "${crate%-*} ${crate##*-}: " "$licences" || echo "$crate"; done)"

# ---- the READMEs' commands ------------------------------------------------------------------------

# One enclave answers all programs. It ends with this script.
start_enclave
cp "$policy" "$into/policy.json"
export CONFER_TOKEN=$token URL=$url POLICY=$into/policy.json

# Prints blocks of code under a heading of a README: all, or the first.
blocks() { # README HEADING LANGUAGE [first]
  awk -v heading="$2" -v fence="\`\`\`$3" -v only="${4:-}" '
    /^```/ { if (inside) { if (only && shown) exit; inside = shown = 0 } else { inside = 1; shown = here && $0 == fence }; next }
    !inside && /^#/ { here = $0 == heading }
    shown { print }' "$1"
}
# Follows commands in the current folder. The local enclave takes the place of the real service:
# it gives the token, and examples take its URL and its policy.
follow() { # NAME NUMBER_OF_ANSWERS COMMANDS
  local commands
  commands=$(sed -E -e '/^export CONFER_TOKEN=/d; s/^CONFER_TOKEN=… //' -e 's/ Hello!$/ --url "$URL" --policy "$POLICY"&/' \
    -e 's#^(build|\.)/hello(-static)?$#& "$URL" "$POLICY"#' <<<"$3")
  bash -euc "$commands" >"$into/out" 2>"$into/log" || { cat "$into/log" "$into/out"; echo "FAILED: $1"; exit 1; }
  expect "$1" "$2" "$(grep -cx 'You said: Hello!' "$into/out")"
}
readme=$archive/README.md
variables=$(blocks "$readme" "## A first program" sh)
first_program() { # LANGUAGE NUMBER_OF_ANSWERS [COMMANDS BEFORE]
  (cd "$archive" && follow "the archive's commands for $1" "$2" "$variables
${3:-}
$(blocks "$readme" "### $1" sh)") || exit 1
  passed=$((passed + 1))
}
# Makes an empty folder for the program of a package's README.
new_program() { rm -rf "$into/program" && mkdir "$into/program" && cd "$into/program"; }
export CONFER=$archive

first_program C 4
first_program C++ 1
new_program
blocks "$archive/share/confer/cpp/README.md" "# libconfer for C++" cpp first |
  sed 's/confer::config()/&.endpoint(std::getenv("URL")).policy(confer::policy::load(std::getenv("POLICY")))/' >hello.cpp
follow "the commands of the README for C++" 1 "$(blocks "$archive/share/confer/cpp/README.md" "## Use it" sh)"

if go=$(find_go); then
  export PATH=$(dirname "$go"):$PATH GOTOOLCHAIN=local GOPROXY=off
  first_program Go 1
  module=$archive/share/confer/go
  new_program
  blocks "$module/README.md" "# libconfer for Go" go first |
    sed 's/confer.Config{/&Endpoint: os.Getenv("URL"), Policy: policy, /' >main.go
  printf '%s\n' 'package main' 'import ("os"; "libconfer/confer")' 'var policy, _ = confer.LoadPolicy(os.Getenv("POLICY"))' >policy.go
  follow "the Go module's commands" 1 "$(blocks "$module/README.md" "## Use it" sh)"
  # The flags that README names for the shared library.
  export CGO_LDFLAGS=-Wl,-rpath,$CONFER/lib PKG_CONFIG_PATH=$CONFER/lib/pkgconfig
  kinds=""
  while read -r build; do
    follow "$build" 1 "$build 2>&1
./hello"
    needed=$(readelf --dynamic hello | grep NEEDED || true)
    case $needed in "") kinds+="fully static, " ;; *libconfer*) kinds+="shared, " ;; *) kinds+="static, " ;; esac
  done < <(sed -n 's/^| `\(go build[^`]*\)` |.*/\1/p' "$module/README.md")
  unset CGO_LDFLAGS PKG_CONFIG_PATH
  expect "these programs are" "static, fully static, shared, shared, " "$kinds"
else
  echo "SKIP the packages in Go: Go $GO_MINIMUM or newer is not installed"
fi

if "$TREE/scripts/swift" --version >/dev/null 2>&1; then
  swift="swift() { '$TREE/scripts/swift' \"\$@\"; }"
  first_program Swift 1 "$swift"
  package=$archive/share/confer/swift
  new_program
  mkdir -p Sources/hello
  blocks "$package/README.md" "# libconfer for Swift" swift first |
    sed 's/Configuration(token: token)/Configuration(token: token, endpoint: variable("URL"), policy: Policy(contentsOfFile: variable("POLICY")))/' \
      >Sources/hello/main.swift
  printf '%s\n' 'import Foundation' \
    'func variable(_ name: String) -> String { ProcessInfo.processInfo.environment["CONFER_TEST_" + name]! }' >Sources/hello/variable.swift
  blocks "$package/README.md" "## Use it" swift >Package.swift
  export CONFER_TEST_URL=$URL CONFER_TEST_POLICY=$POLICY
  follow "the Swift package's commands" 1 "$swift
$(blocks "$package/README.md" "## Use it" sh)"
else
  echo "SKIP the packages in Swift: Swift 6.0 is not installed"
fi

if [ $status = 0 ]; then
  glibc=$(sed -n 's/.* need glibc \([0-9.]*\) or newer.*/\1/p' "$readme")
  expect "the archive's README names the glibc of the wheel" "manylinux_${glibc/./_}" "$(basename "$into"/*.whl | grep -o 'manylinux_[0-9]*_[0-9]*')"
  export PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1
  # The tools' Python can make virtual environments.
  [ ! -e "$PYTHON_TOOLS/.complete" ] || PATH=$PYTHON_TOOLS/bin:$PATH
  first_program Python 1
  new_program
  cp "$into"/libconfer-*.whl .
  description=$(python3 -c 'import sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
print(next(wheel.read(name).decode() for name in wheel.namelist() if name.endswith("METADATA")))' libconfer-*.whl)
  expect "the text in the wheel links to no file" "" "$(links <<<"$description")"
  python3 -m zipfile --extract libconfer-*.whl "$into/wheel"
  expect "the wheel names no file that is only in the source" "" "$(not_there "$into/wheel" '*.py')"
  blocks "$TREE/bindings/python/README.md" "# libconfer for Python" python first |
    sed 's/confer.Config(/&endpoint=os.environ["URL"], policy=confer.Policy.load(os.environ["POLICY"]), /' >hello.py
  follow "the wheel's commands" 1 "$(blocks "$TREE/bindings/python/README.md" "## Use it" sh)"
else
  echo "SKIP the Python wheel: the packages build and hatchling are not installed"
fi

rm -rf "$into"
echo "$passed passed, 0 failed"
