"""Writes src/confer/_abi.py and _constants.py from include/confer.h.

    python generate.py           writes both files
    python generate.py --check   fails if they differ from the header
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
HEADER = HERE / "../../include/confer.h"

# The prefix of each enumeration's constants, its name in Python, and its description.
ENUMERATIONS = {
    "E": ("Status", "The result of a call or a stream."),
    "ROLE": ("Role", "The author of a message."),
    "PROGRESS": ("Progress", "How far a request got."),
    "STAGE": ("Stage", "A stage of connecting."),
    "ROOTS": ("Roots", "The certificate authorities that TLS trusts."),
    "DURATION": ("Duration", "A key of `Config.durations`."),
    "LIMIT": ("Limit", "A key of `Config.limits`."),
    "LOG": ("LogLevel", "The level of a log record."),
    "CLIENT": ("State", "The state of a client."),
    "COUNTER": ("Counter", "A counter of a client."),
    "OUTCOME": ("Outcome", "The outcome of a check."),
    "ENDING": ("Ending", "The end of the answer to a raw request."),
    "EVENT": ("EventType", "The type of an event."),
    "ASK": ("Ask", "A question that the application answers."),
    "TOKEN": ("TokenReason", "Why a token is needed."),
}
FLAGS = {"Ask"}
# Names that no prefix explains.
STATUSES = {"CONFER_OK", "CONFER_TIMEOUT", "CONFER_END"}
VERSION = re.compile(r"CONFER_VERSION_\w+")

# C types as ctypes and Python know them: the argument's type, and the type in annotations.
NUMBERS = {
    "bool": ("ctypes.c_bool", "bool"),
    "double": ("ctypes.c_double", "float"),
    "size_t": ("ctypes.c_size_t", "int"),
    "confer_status": ("ctypes.c_int32", "int"),
    "int32_t": ("ctypes.c_int32", "int"),
    "int64_t": ("ctypes.c_int64", "int"),
    "uint32_t": ("ctypes.c_uint32", "int"),
    "uint64_t": ("ctypes.c_uint64", "int"),
}
POINTERS = {
    "int*": "ctypes.c_int",
    "size_t*": "ctypes.c_size_t",
    "int64_t*": "ctypes.c_int64",
    "const char**": "ctypes.c_void_p",
    "const confer_stream_callbacks*": "confer_stream_callbacks",
}
# Numbers that are checked, because ctypes cuts integers to their width without an error.
CHECKED = {
    "double": "Double",
    "confer_status": "Int32",
    "int32_t": "Int32",
    "uint32_t": "UInt32",
    "int64_t": "Int64",
    "uint64_t": "UInt64",
    "size_t": "UInt64",
}


class Header:
    """The declarations of confer.h. Raises an error for anything that it does not know."""

    def __init__(self, text: str) -> None:
        self.documented = text
        self.text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)
        self.handles = re.findall(r"^typedef struct (confer_\w+) confer_\w+;", self.text, re.M)
        self.callbacks = re.findall(r"^typedef ([\w ]+?) ?\(\*(confer_\w+_fn)\)\(([^)]*)\);", self.text, re.M)
        functions = re.findall(
            r"^(?:CONFER_MUST_USE )?CONFER_API\s+((?:const )?\w+)\s*(\**)\s*(confer_\w+)\(([^;]*)\);", self.text, re.M
        )
        self.functions = [(name, base + stars, self.parameters(rest)) for base, stars, name, rest in functions]
        if len(self.functions) != len(re.findall(r"^(?:CONFER_MUST_USE )?CONFER_API$", self.text, re.M)):
            raise ValueError("a function of the header is in no known form")

    @staticmethod
    def parameters(text: str) -> list[str]:
        """Returns the types of the parameters, such as `const char*`."""
        text = " ".join(text.split())
        if text == "void":
            return []
        types = []
        for parameter in text.split(", "):
            match = re.fullmatch(r"((?:const )?\w+) (\**)(\w+)", parameter)
            if match is None:
                raise ValueError(f"a parameter is in no known form: {parameter}")
            types.append(match[1] + match[2])
        return types

    def members(self) -> Iterator[tuple[str, str]]:
        """The members of the callback table: name and type."""
        table = re.search(r"typedef struct \{(.*?)\} confer_stream_callbacks;", self.text, re.S)
        if table is None:
            raise ValueError("confer_stream_callbacks is not in the header")
        for member in filter(None, (" ".join(part.split()) for part in table[1].split(";"))):
            if function := re.fullmatch(r"(\w+) \(\*(\w+)\)\((.*)\)", member):
                yield function[2], self.function_type(function[1], function[3])
            elif plain := re.fullmatch(r"(\w+ ?\*?)(\w+)", member):
                kind = plain[1].replace(" ", "")
                yield plain[2], kind if kind.endswith("_fn") else self.native(kind)
            else:
                raise ValueError(f"a callback is in no known form: {member}")

    def function_type(self, result: str, parameters: str) -> str:
        types = ["None" if result == "void" else self.native(result)]
        types += [self.native(kind) for kind in self.parameters(parameters)]
        return f"ctypes.CFUNCTYPE({', '.join(types)})"

    def native(self, kind: str) -> str:
        """The ctypes type of an argument or a result."""
        if kind in NUMBERS:
            return NUMBERS[kind][0]
        if kind in ("const char*", "const uint8_t*"):
            return "ctypes.c_char_p"
        if kind in ("void*", "uint8_t*", "const float*"):
            return "ctypes.c_void_p"
        if kind in POINTERS:
            return f"ctypes.POINTER({POINTERS[kind]})"
        name = kind.removeprefix("const ").rstrip("*")
        if name in self.handles and kind.endswith("**"):
            return f"ctypes.POINTER({name})"
        if name in self.handles and kind.endswith("*") or kind.endswith("_fn"):
            return name
        raise ValueError(f"the C type {kind} is unknown")

    def annotated(self, kind: str) -> str:
        """The Python type of an argument or a result."""
        if kind in NUMBERS:
            return NUMBERS[kind][1]
        return {"ctypes.c_char_p": "bytes | None", "ctypes.c_void_p": "int | None"}.get(
            self.native(kind), self.native(kind) if kind.count("*") == 1 and kind not in POINTERS else "Any"
        )

    def constants(self) -> Iterator[tuple[str, int, str]]:
        """The constants: name, number and description."""
        pattern = r"/\*\*\n((?: \*[^\n]*\n)+?) \*/\n#define (CONFER_\w+) (\d+)\n"
        found = re.findall(pattern, self.documented)
        if len(found) != len(re.findall(r"^#define CONFER_\w+ \d+$", self.documented, re.M)):
            raise ValueError("a constant of the header is in no known form")
        for comment, name, number in found:
            lines = [line[2:].strip() for line in comment.splitlines()]
            yield name, int(number), " ".join(" ".join(lines).split())

    def settings(self) -> dict[str, str]:
        """The default and the bounds of each setting, as a sentence."""
        pattern = r"^ \*     CONFER_(DURATION|LIMIT)_(\w+) +(\S+(?: \S+)*)  +(.+)$"
        sentences = {}
        for kind, key, default, bounds in re.findall(pattern, self.documented, re.M):
            if kind == "DURATION":
                default, bounds = (re.sub(r"[\d,]*\d", in_seconds, text) for text in (default, bounds))
            unit = "In seconds: default" if kind == "DURATION" else "Default"
            sentences[f"CONFER_{kind}_{key}"] = f" {unit} {default}, bounds {bounds}."
        return sentences


def in_seconds(milliseconds: re.Match[str]) -> str:
    return f"{int(milliseconds[0].replace(',', '')) / 1000:,.10g}"


def abi(header: Header) -> str:
    out = [
        '"""The functions and types of confer.h. Written by generate.py; do not edit."""',
        "",
        "from __future__ import annotations",
        "",
        "import ctypes",
        "from collections.abc import Callable",
        "from typing import Any",
        "",
        "from ._library import Double, Int32, Int64, UInt32, UInt64, quick, waiting",
        "",
    ]
    for handle in header.handles:
        out += ["", f"class {handle}(ctypes.c_void_p):", "    pass", ""]
    for result, name, parameters in header.callbacks:
        parameters = parameters.replace("uint8_t *buffer", "void *buffer")
        out += ["", f"{name} = {header.function_type(result, parameters)}"]
    out += ["", "", "# The callbacks of confer_stream_callbacks.", ""]
    out += [f"{name}_fn = {kind}" for name, kind in header.members() if "(" in kind]
    out += ["", "", "class confer_stream_callbacks(ctypes.Structure):", "    _fields_ = ["]
    out += [f'        ("{name}", {name}_fn),' if "(" in kind else f'        ("{name}", {kind}),' for name, kind in header.members()]
    out += ["    ]", "", ""]
    for name, result, parameters in header.functions:
        text = result == "const char*"
        if text and "size_t*" not in parameters:
            native, annotated = "ctypes.c_char_p", "bytes"  # a name, which is never NULL
        elif text:
            native, annotated = "ctypes.c_void_p", "int | None"
        elif result == "void":
            native = annotated = "None"
        else:
            native, annotated = header.native(result), header.annotated(result)
        types = ", ".join(header.annotated(kind) for kind in parameters)
        arguments = ", ".join(CHECKED.get(kind) or header.native(kind) for kind in parameters)
        # A function that reports an error may wait. The others never do.
        declare = "waiting" if parameters[-1:] == ["confer_error**"] else "quick"
        out += [
            f"{name}: Callable[[{types}], {annotated}] = {declare}(",
            f'    "{name}", {native}, [{arguments}]',
            ")",
        ]
    return "\n".join(out) + "\n"


def constants(header: Header) -> str:
    members: dict[str, list[tuple[str, int, str]]] = {name: [] for name, _ in ENUMERATIONS.values()}
    version = 0
    settings = header.settings()
    for name, number, comment in header.constants():
        if VERSION.fullmatch(name):
            version = number if name == "CONFER_VERSION_NUMBER" else version
            continue
        prefix, _, rest = name.removeprefix("CONFER_").partition("_")
        if name in STATUSES:
            prefix, rest = "E", prefix
        if prefix not in ENUMERATIONS:
            raise ValueError(f"{name} is of an unknown enumeration: add it to ENUMERATIONS")
        setting = settings.pop(name) if prefix in ("DURATION", "LIMIT") else ""
        members[ENUMERATIONS[prefix][0]].append((rest, number, comment + setting))
    if settings:
        raise ValueError(f"the tables of settings have rows without a constant: {', '.join(settings)}")
    out = [
        '"""The constants of confer.h. Written by generate.py; do not edit."""',
        "",
        "from __future__ import annotations",
        "",
        "from enum import IntFlag",
        "",
        "from ._library import Constant",
        "",
        "#: The version of the header.",
        f'__version__ = "{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"',
    ]
    for prefix, (name, comment) in ENUMERATIONS.items():
        if not members[name]:
            raise ValueError(f"the header has no CONFER_{prefix}_ constant")
        base = "IntFlag" if name in FLAGS else "Constant"
        later = "" if name in FLAGS else " Later versions may add members."
        out += ["", "", f"class {name}({base}):", f'    """{comment}{later}"""', ""]
        for member, number, text in members[name]:
            out += textwrap.wrap(python_names(text), 96, initial_indent="    #: ", subsequent_indent="    #: ")
            out += [f"    {member} = {number}"]
    return "\n".join(out) + "\n"


def python_names(text: str) -> str:
    """Turns CONFER_E_CLOSED into Status.CLOSED and so on."""

    def renamed(match: re.Match[str]) -> str:
        if match[0] in STATUSES:
            return "Status." + match[1] + match[2]
        known = ENUMERATIONS.get(match[1])
        return f"{known[0]}.{match[2].removeprefix('_')}" if known else match[0]

    return re.sub(r"\bCONFER_([A-Z]+)(_[A-Z_0-9]*[A-Z0-9]|)", renamed, text)


def main() -> None:
    header = Header(HEADER.read_text(encoding="utf-8"))
    for name, text in (("_abi.py", abi(header)), ("_constants.py", constants(header))):
        path = HERE / "src/confer" / name
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path} differs from confer.h: run generate.py")


if __name__ == "__main__":
    main()
