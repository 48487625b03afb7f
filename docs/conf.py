"""Sphinx configuration: pages in MyST markdown, the API from the package tree, the command line from click itself."""

from __future__ import annotations

import sys
from pathlib import Path

from astroid.manager import AstroidManager

from personaprobe import __version__

SOURCE = Path(__file__).resolve().parent.parent / "src"


class OtherPackages:
    """Names of modules of other packages. Astroid would otherwise parse torch to infer types: a build of minutes."""

    def __contains__(self, module: str) -> bool:
        return module.partition(".")[0] not in {"personaprobe", *sys.stdlib_module_names}


AstroidManager.brain["module_denylist"] = OtherPackages()

project = "personaprobe"
author = "The personaprobe authors"
copyright = "The personaprobe authors, MIT licence"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.napoleon", "autoapi.extension", "sphinx_click"]
exclude_patterns = ["_build", "_templates", "campaign_table.md", "cases_table.md"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

myst_enable_extensions = ["dollarmath", "fieldlist"]
myst_heading_anchors = 3

# The API pages are written from the package tree at every build, without importing it: a module that moves takes its
# page along. The command line has a page of its own.
autoapi_dirs = [str(SOURCE)]
autoapi_root = "api"
autoapi_add_toctree_entry = False
autoapi_keep_files = False
autoapi_ignore = ["*/cli/*"]
autoapi_options = ["members", "undoc-members", "show-inheritance"]
autoapi_member_order = "bysource"
autoapi_python_class_content = "class"
autoapi_template_dir = "_templates"
suppress_warnings = [
    "autoapi.python_import_resolution",
    "ref.python",  # axes of jaxtyping shapes ("batch d_model") look like references
]

# Fields of a dataclass are listed by its docstring ("Attributes:") and are members as well: as ``ivar`` they are
# described once.
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

add_module_names = False
python_use_unqualified_type_names = True
smartquotes = False  # "--feature" would lose a dash

html_theme = "furo"
html_title = "personaprobe"
html_static_path = ["_static"]
html_css_files = ["personaprobe.css"]
html_theme_options = {"navigation_with_keys": True}
html_copy_source = False
html_show_sourcelink = False
