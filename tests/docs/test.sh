#!/usr/bin/env bash
# Builds the documentation site, and follows its links. The build fails if Doxygen, rustdoc or
# Sphinx warns, for example about a missing page, a missing example, or a function that confer.h
# lacks. Exits with 77 if the tools are not installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

scripts/docs
python3 tests/docs/links.py build/docs
