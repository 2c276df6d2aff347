#!/usr/bin/env python3
"""Checks the table of features in README.md. Each row names a part of each language's API. For each row and
language, features.tsv names a test, which must have passed when the language was tested last. A language
without a log was not tested, because its tools are not installed.

Exit status 77: no language was tested."""

import csv
import re
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]

# Per column of README: the sources of the API, the folder of the tests' log, and how the log says that a test passed.
LANGUAGES = {
    "C": (["include/confer.h"], "c", r"^  (\w+) ok$"),
    "C++": (["include/confer.hpp"], "cpp", r"^ok +(\w+)$"),
    "Go": (["bindings/go/*.go"], "go", r"^--- PASS: (\w+) "),
    "Swift": (["bindings/swift/Sources/Confer/*.swift"], "swift", r"^✔ Test (\w+)\(\) passed"),
    "Python": (["bindings/python/src/confer/*.py"], "python", r"^(test_\w+) \(.*\) \.\.\. ok$"),
}
# Names of the languages themselves.
STANDARD = {"context.Context", "Task.cancel"}

failures: list[str] = []
skipped: list[str] = []


def table(text: str) -> list[list[str]]:
    """Returns the rows of README's table, without the rule under its head."""
    rows = re.findall(r"^\| (.+) \|$", text[text.index("| feature |") :].split("\n\n")[0], re.MULTILINE)
    return [[cell.strip() for cell in row.split(" | ")] for row in rows if not row.startswith("---")]


head, *shown = table((TREE / "README.md").read_text())
with open(TREE / "tests/languages/features.tsv", newline="") as file:
    tests = {row.pop("feature"): row for row in csv.DictReader(file, delimiter="\t")}

if head != ["feature", *LANGUAGES]:
    failures.append(f"README's table has the columns {head}")
if [row[0] for row in shown] != list(tests):
    failures.append(f"README and features.tsv differ: {sorted({row[0] for row in shown} ^ set(tests)) or 'their order'}")

for column, (language, (sources, log, passes)) in enumerate(LANGUAGES.items(), 1):
    code = "\n".join(file.read_text() for pattern in sources for file in sorted(TREE.glob(pattern)))
    for feature, *cells in shown:
        name = cells[column - 1].strip("`")
        if name not in STANDARD and not all(re.search(rf"\b{word}\b", code) for word in re.split(r"::|\.", name)):
            failures.append(f"{language} has no {name}: {feature}")
    results = TREE / f"build/tests/{log}/tests.log"
    if not results.exists():
        skipped.append(language)
        continue
    passed = set(re.findall(passes, results.read_text(), re.MULTILINE))
    failures += [
        f"{language}: {row[language]} did not pass: {feature}" for feature, row in tests.items() if row[language] not in passed
    ]

for failure in failures:
    print(f"FAILED {failure}")
for language in skipped:
    print(f"SKIP features of {language}: it was not tested")
print(f"{len(tests)} features in {len(LANGUAGES)} languages")
if not failures and len(skipped) == len(LANGUAGES):
    print("no language was tested")
    sys.exit(77)
sys.exit(bool(failures))
