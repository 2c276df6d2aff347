"""The package against confer.h and the library."""

from __future__ import annotations

import ctypes
import re
import sys
import unittest
from pathlib import Path

import confer
from confer import _abi

HERE = Path(__file__).parent
TREE = HERE / "../../.."
sys.path.insert(0, str(HERE / ".."))
import generate  # noqa: E402

#: The function that names a constant of each enumeration.
NAMES = {
    confer.Status: _abi.confer_status_name,
    confer.Role: _abi.confer_role_name,
    confer.Progress: _abi.confer_progress_name,
    confer.Stage: _abi.confer_stage_name,
    confer.Roots: _abi.confer_roots_name,
    confer.Duration: _abi.confer_duration_name,
    confer.Limit: _abi.confer_limit_name,
    confer.LogLevel: _abi.confer_log_level_name,
    confer.State: _abi.confer_client_state_name,
    confer.Counter: _abi.confer_counter_name,
    confer.Outcome: _abi.confer_outcome_name,
    confer.Ending: _abi.confer_ending_name,
    confer.EventType: _abi.confer_event_type_name,
    confer.TokenReason: _abi.confer_token_reason_name,
}

#: Functions that the package does not call, with the reason.
UNUSED = {
    "confer_version_number": "the package compares the version's text",
    "confer_connect": "connecting with confer_connect_start can be cancelled",
    "confer_error_clone": "errors are copied",
    "confer_report_clone": "reports are copied",
} | {function.__name__: "Python's enumerations have names" for function in NAMES.values()}


class Header(unittest.TestCase):
    header = generate.Header((TREE / "include/confer.h").read_text())

    def test_generated_files_match_the_header(self) -> None:
        for name, text in (("_abi", generate.abi(self.header)), ("_constants", generate.constants(self.header))):
            committed = (HERE / f"../src/confer/{name}.py").read_text()
            self.assertTrue(committed == text, f"{name}.py differs from confer.h: run generate.py")

    def test_added_constant_and_function_are_noticed(self) -> None:
        text = self.header.documented
        place = "/**\n * Cancelled by the application.\n */\n"
        constant = "/**\n * New.\n */\n#define CONFER_E_NEW 299\n\n"
        self.assertIn("    NEW = 299\n", generate.constants(generate.Header(text.replace(place, constant + place))))
        for unknown in ("/**\n * New.\n */\n#define CONFER_NEW_THING 1\n\n", "#define CONFER_E_NEW 299\n\n"):
            with self.assertRaises(ValueError):
                generate.constants(generate.Header(text.replace(place, unknown + place)))
        function = "CONFER_API\nconst char *confer_status_description(confer_status status);"
        self.assertIn(function, text)
        for changed in ("confer_status status, int64_t now", "confer_status status, bool now"):
            other = generate.Header(text.replace(function, function.replace("confer_status status", changed)))
            self.assertNotEqual(generate.abi(other), generate.abi(self.header))
        with self.assertRaises(ValueError):
            generate.abi(generate.Header(text.replace(function, function.replace("(confer_status", "(confer_new"))))

    def test_every_exported_symbol_is_declared(self) -> None:
        lines = (TREE / "docs/symbols-in-versions").read_text().splitlines()
        symbols = {line.split()[0] for line in lines if line and not line.startswith("#")}
        self.assertEqual(symbols, {name for name, _, _ in self.header.functions})
        for symbol in symbols:
            self.assertTrue(callable(getattr(_abi, symbol)), symbol)

    def test_package_uses_every_function(self) -> None:
        sources = "".join(
            path.read_text() for path in (HERE / "../src/confer").glob("*.py") if path.name != "_abi.py"
        )
        used = set(re.findall(r"\bc\.(confer_\w+)", sources))
        for name, _, _ in self.header.functions:
            self.assertNotEqual(name in used, name in UNUSED, f"{name}: {UNUSED.get(name, 'not used')}")

    def test_constants_have_the_names_of_the_library(self) -> None:
        for enumeration, name in NAMES.items():
            for member in enumeration:
                prefix = next(key for key, (known, _) in generate.ENUMERATIONS.items() if known == enumeration.__name__)
                plain = f"CONFER_{member.name}" in generate.STATUSES
                expected = f"CONFER_{member.name}" if plain else f"CONFER_{prefix}_{member.name}"
                self.assertEqual(name(member).decode(), expected)

    def test_numbers_of_later_versions_are_kept(self) -> None:
        later = confer.Status(699)
        self.assertEqual((later, later.name), (699, "UNKNOWN_699"))
        with self.assertRaises(ValueError):
            confer.Status("REJECTED")  # type: ignore[arg-type]

    def test_wrong_handles_and_numbers_are_refused(self) -> None:
        error = ctypes.byref(_abi.confer_error())
        with self.assertRaises(ctypes.ArgumentError):
            _abi.confer_client_wait(_abi.confer_config(), 0, error)  # type: ignore[arg-type]
        with self.assertRaisesRegex(OverflowError, "confer_config_set_ask: expected a number from 0 to 4294967295"):
            _abi.confer_config_set_ask(_abi.confer_config(), 2**32, error)
