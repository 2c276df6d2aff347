#!/usr/bin/env python3
"""Checks the vectors against schema.json. The bindings' tests run them. Exits with 77 without jsonschema."""

import json
import pathlib
import sys

try:
    import jsonschema
except ImportError:
    sys.exit(print("jsonschema is not installed: see make toolchains") or 77)

here = pathlib.Path(__file__).parent
schema = json.loads((here / "schema.json").read_text())
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
vectors = {file.stem: json.loads(file.read_text()) for file in here.glob("*.json") if file.stem != "schema"}


def of(definition):
    """A validator for a definition of the schema."""
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{definition}", "$defs": schema["$defs"]})


wrong = [f"{name}: {error.json_path}: {error.message[:300]}" for name, vector in vectors.items() for error in validator.iter_errors(vector)]
for name, vector in vectors.items():
    exchange = vector.get("exchange", {})
    expected = ["answer"] * len(exchange.get("requests", [])) + ["watched"] * ("watch" in exchange)
    if exchange and len(vector["results"]) != len(expected):
        wrong.append(f"{name}: not one result for each request, and one for the watch")
    if not exchange and len(vector["results"]) != 1:
        wrong.append(f"{name}: not one result")
    wrong += [f"{name}: a result is no {kind}" for kind, result in zip(expected, vector["results"]) if not of(kind).is_valid(result)]

# A test of the enclave checks that the player of scripts refuses them too, and accepts all others.
for step in json.loads((here / "malformed" / "steps.json").read_text()):
    if of("step").is_valid(step):
        wrong.append(f"malformed/steps.json: the schema accepts {step}")

used = {file for vector in vectors.values() for key, file in vector.get("evidence", {}).items() if key != "at"}
there = {str(file.relative_to(here)) for folder in ("evidence", "policies") for file in (here / folder).iterdir()}
wrong += [f"{file}: missing, or no vector uses it" for file in used ^ there]

counts = {kind: sum(kind in vector for vector in vectors.values()) for kind in ("evidence", "connect", "exchange")}
print(f"{len(vectors)} vectors:", ", ".join(f"{count} of {kind}" for kind, count in counts.items()))
if len(vectors) < 60 or counts["exchange"] < 20:
    wrong.append("expected at least 60 vectors, 20 of them exchanges")
sys.exit("\n".join(wrong) or 0)
