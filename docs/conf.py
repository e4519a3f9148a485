"""Sphinx configuration."""

from __future__ import annotations

import avexperts

project = "avexperts"
author = "The avexperts developers"
project_copyright = "2026, the avexperts developers"
version = release = avexperts.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
html_theme = "furo"
html_title = f"avexperts {version}"
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
