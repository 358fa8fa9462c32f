"""The documentation site: ``sphinx-build -W --keep-going docs build/docs``."""

from importlib.metadata import version as version_of

project = "immunos-mcp"
author = "The immunos-mcp authors"
release = version = version_of("immunos-mcp")

extensions = ["myst_parser", "sphinx_copybutton"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nitpicky = True
exclude_patterns = ["reference.py"]

html_theme = "furo"
html_title = "immunos-mcp"
html_theme_options = {
    "source_repository": "https://github.com/immunos-mcp/immunos-mcp/",
    "source_branch": "main",
    "source_directory": "docs/",
}
