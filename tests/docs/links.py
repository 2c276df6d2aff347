#!/usr/bin/env python3
"""Follows each link inside a site: links.py FOLDER. Fails if a page or an anchor is missing.

Follows no links of pages in rust/: rustdoc checks them itself."""

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

SITE = Path(sys.argv[1]).resolve()


class Page(HTMLParser):
    def __init__(self, path: Path):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


@cache
def read(path: Path) -> Page:
    return Page(path)


pages = sorted(page for page in SITE.rglob("*.html") if SITE / "rust" not in page.parents)
links = 0
dead = []
for path in pages:
    for link in read(path).links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        links += 1
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        anchor = unquote(parts.fragment)
        if not target.is_file():
            dead.append(f"{path.relative_to(SITE)}: {link}: no such file")
        elif anchor and target.suffix == ".html" and anchor not in read(target).anchors:
            dead.append(f"{path.relative_to(SITE)}: {link}: no such anchor")

print(*dead, sep="\n", end="\n" if dead else "")
print(f"links: {len(pages)} pages, {links} links, {len(dead)} dead")
if len(pages) < 50 or links < 1000:
    sys.exit("links: the site is not complete")
sys.exit(bool(dead))
