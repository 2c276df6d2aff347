"""Sphinx's settings for the documentation site. scripts/docs runs Sphinx.

The source folder is the whole tree, so that links between README.md, docs and the bindings' READMEs
work unchanged."""

import os
import re
import xml.etree.ElementTree as ElementTree

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

project = "libconfer"
html_title = "libconfer"
root_doc = "docs/guide/index"
extensions = ["myst_parser"]
include_patterns = ["*.md", "docs/**.md", "bindings/*/README.md", "packaging/README.md"]
exclude_patterns = [".*", "build", "target", "tests", "src", "benches"]
myst_heading_anchors = 3
# Some examples in READMEs leave out a part, with `…`.
suppress_warnings = ["misc.highlighting_failure"]
# In pages of the guide, [text](c:page.html#anchor) links to the C reference. tests/docs follows it.
myst_url_schemes = {"http": None, "https": None, "c": "../../c/{{path}}#{{fragment}}"}

templates_path = ["templates"]
html_theme = "furo"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_additional_pages = {"index": "to-guide.html"}
html_sidebars = {
    "**": [f"sidebar/{part}.html" for part in ("brand", "search", "scroll-start", "navigation")]
    + ["references.html", "sidebar/scroll-end.html"]
}

# The page of each name in the C reference, from Doxygen's tag file.
names_of_c = {
    member.findtext("name"): f"c/{member.findtext('anchorfile')}#{member.findtext('anchor')}"
    for member in ElementTree.parse(os.environ["CONFER_TAGS"]).iter("member")
    if member.findtext("name").upper().startswith("CONFER_")
}


def link_names(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Links names of confer.h to the C reference. Warns about a function that confer.h lacks."""
    for literal in list(doctree.findall(nodes.literal)):
        text = literal.astext()
        place = names_of_c.get(text.removesuffix("()"))
        if place and not isinstance(literal.parent, nodes.reference):
            link = nodes.reference(refuri="../" * page.count("/") + place)
            literal.replace_self(link)
            link += literal
        elif not place and re.fullmatch(r"confer_\w+\(\)|CONFER_E_[A-Z_]+[A-Z]", text):
            logging.getLogger(__name__).warning("confer.h has no %s", text, location=literal)


def setup(app: Sphinx) -> None:
    app.connect("doctree-resolved", link_names)
