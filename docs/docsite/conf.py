"""Sphinx's settings for the site that `make docs` makes; tools/docs brings the pages together."""

project = "vivarium.server"
author = "Vivarium maintainers"
extensions = ["myst_parser", "sphinx_antsibull_ext"]
html_theme = "sphinx_rtd_theme"
html_title = project
html_show_copyright = False
html_copy_source = False
# Sections can be linked to as on GitHub.
myst_heading_anchors = 4
# Blocks that are indented say no language.
highlight_language = "none"
# Messages are searched for as they are written.
smartquotes = False
# Modules of Ansible are documented elsewhere, and a directory of the repository is no page. That links lead somewhere
# is tests/unit/test_docs.py's to see.
suppress_warnings = ["misc.highlighting_failure", "ref.ref", "myst.xref_missing"]
