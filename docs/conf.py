"""Sphinx configuration: `sphinx-build -W docs build/site`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import retina_jit

project = "retina_jit"
author = "the retina_jit developers"
project_copyright = "2026, the retina_jit developers; Apache-2.0"
version = release = retina_jit.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["build"]

# Headings get anchors, so that a page can point into another one as on a forge.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# Pages of the repository that are included here keep their links into it.
suppress_warnings = ["myst.header"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"retina_jit {version}"
pygments_style = "tango"
pygments_dark_style = "monokai"

sys.path.insert(0, str(Path(__file__).parent))
make_reference = importlib.import_module("make_reference")
make_reference.write()
importlib.import_module("make_notebooks").write()
html_static_path = ["static"]
html_css_files = ["cells.css"]
