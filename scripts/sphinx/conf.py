"""
How the site looks. What is in it: `documents.site`, which makes the folder that Sphinx reads.
"""

from __future__ import annotations

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

project = "cftpki"
html_title = "cftpki"
root_doc = "index"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
# Anchors as the code hosts make them; a link to a heading that is not there is a warning, and warnings are errors.
myst_heading_anchors = 6
myst_enable_extensions = ["deflist"]
html_theme = "furo"
# The pages say what they are made from; a copy of the source beside each would say it twice.
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
nitpicky = True


def setup(app: Sphinx) -> None:
    """
    Take `hex`, the fence of the protocol's example frames, which tests read, as plain text.
    """
    app.add_lexer("hex", TextLexer)
