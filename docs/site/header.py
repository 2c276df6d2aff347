#!/usr/bin/env python3
"""Doxygen's filter for include/confer.h: prints the header, with its comments in Doxygen's form.

Tables and programs become <pre> blocks, because spaces align their columns. Names in them still
link."""

import html
import re
import sys
from itertools import groupby
from textwrap import dedent

EMPTY_LINE = "\n\n"

header = open(sys.argv[1], encoding="utf-8").read()
# Doxygen links a name after a `#`, and fails if it is unknown. So each `confer_function()` must
# exist.
linked = {*re.findall(r"^#define (CONFER_\w+)", header, re.M), *re.findall(r"\b(confer_\w+)(?:;|\()", header)}


def group(source: str) -> str:
    return source.removeprefix("src/ffi/").removesuffix(".rs")


def links(text: str) -> str:
    """Escapes a text, and links the names in it."""
    text = re.sub(r"[\\%#@]", r"\\\g<0>", html.escape(text, quote=False).replace('"', "&quot;"))
    names = r"\bconfer_\w+\(\)|\bconfer_\w+\b(?!\()|\bCONFER_\w+\b"
    return re.sub(names, lambda name: "#" * (name[0] in linked or name[0].endswith("()")) + name[0], text)


def prose(text: str) -> str:
    parts = text.split("`")
    return "".join(f"<code>{links(part)}</code>" if at % 2 else links(part) for at, part in enumerate(parts))


def keeps_lines(paragraph: str) -> bool:
    """Whether a paragraph is indented, or is a table: a rule of dashes is below its head."""
    return paragraph.startswith("    ") or bool(re.search(r"^-{3,}[- ]*$", paragraph, re.M))


def blocks(text: str) -> str:
    """Converts paragraphs of prose, tables and programs."""
    # An indented block can follow its sentence without an empty line.
    text = re.sub(r"^(\S.*\n)(?=    )", r"\1\n", text, flags=re.M)
    done: list[str] = []
    for kept, paragraphs in groupby(re.split(r"\n{2,}", text.strip("\n")), keeps_lines):
        if kept:
            done.append(f'<pre class="fragment">{prose(dedent(EMPTY_LINE.join(paragraphs)))}</pre>')
        else:
            done += map(prose, paragraphs)
    return EMPTY_LINE.join(done)


def comment(body: str) -> str:
    return re.sub(r"^ +\* ?", "", body, flags=re.M)


def opening(body: str) -> str:
    """Converts the comment at the top of the header into the main page."""
    title, _, text = comment(body).strip().partition("\n")
    page = [f"@file\n@mainpage {title.split(':')[0]}"]
    start, *chapters = re.split(r"^([A-Z ]{8,})$", text, flags=re.M)
    page += ["The <a href=\"../index.html\">guide</a> explains how to use it, in all languages.", blocks(start)]
    for name, chapter in zip(chapters[::2], chapters[1::2]):
        page.append(f"@section {name.replace(' ', '_').lower()} {name.capitalize()}")
        if name == "CONTENTS":
            rows = re.findall(r"^(\S.*?) {2,}(\w+\.rs) +(.*)$", chapter, re.M)
            page.append("\n".join(f"- @ref {group(source)} \"{section}\": {prose(names)}" for section, source, names in rows))
        elif name == "CONVENTIONS":
            for item, told in re.findall(r"^(\w+) +(.*\n(?:(?: {13}.*)?\n)*)", chapter + "\n", re.M):
                page.append(f"@subsection {item.lower()} {item}\n\n{blocks(re.sub(r'^ {13}', '', told, flags=re.M))}")
        else:
            page.append(blocks(chapter))
    return f"/**\n{EMPTY_LINE.join(page)}\n*/"


def banner(match: re.Match[str]) -> str:
    """Converts the banner of a section into a group of Doxygen, which ends at the next one."""
    title, source, text = re.match(r" \* (.*): (\S+)\n \*\n(.*)", match[1], re.S).groups()
    return f"/** @}} */\n/**\n@defgroup {group(source)} {title}\n{prose(comment(text))}\n@{{\n*/"


header = re.sub(r"\A/\*\n(.*?)\n \*/", lambda match: opening(match[1]), header, flags=re.S)
header = re.sub(r"^ */\*\*\n( +\*.*?)\n +\*/", lambda match: f"/**\n{blocks(comment(match[1]))}\n*/", header, flags=re.M | re.S)
header = re.sub(r"^/\* ={9,}\n(.*?)\n \* ={9,} \*/", banner, header, flags=re.M | re.S)
# No group ends before the first one; the last one ends with the declarations.
header = header.replace("/** @} */\n", "", 1).replace("#ifdef __cplusplus\n}", "/** @} */\n#ifdef __cplusplus\n}")
# These comments are plain in the header.
header = re.sub(r"^/\* (CONFER_|The length)", r"/** \1", header, flags=re.M)
print(header)
