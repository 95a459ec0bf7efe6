"""How the site is built; its command is in README.md."""

from __future__ import annotations

import inspect
import os
import shutil
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.ext.napoleon import NumpyDocstring

DOCS = Path(__file__).parent
ROOT = DOCS.parent
REPOSITORY = os.environ.get("PSALM_REPOSITORY", "")
"""Address of the public repository. Links to it are left out where it is unset."""

project = "psalm"
author = "the psalm developers"
copyright = f"2026, {author}"
version = release = version_of("scpsalm")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.linkcode",
    "sphinx.ext.napoleon",
    "sphinx_autodoc_typehints",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
templates_path = ["_templates"]

# Pages
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # tutorials/execute.py runs them, and a test does
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# API
autosummary_generate = True
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_numpy_docstring = True
always_use_bars_union = True
typehints_defaults = "comma"
typehints_document_rtype_none = False
typehints_use_rtype = False

# Links. A name of ours that leads nowhere fails the build; names of other packages are looked up online.
nitpicky = True
online = os.environ.get("PSALM_DOCS_OFFLINE", "0") != "1"
intersphinx_mapping = (
    {
        "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
        "joblib": ("https://joblib.readthedocs.io/en/stable/", None),
        "matplotlib": ("https://matplotlib.org/stable/", None),
        "mudata": ("https://mudata.readthedocs.io/stable/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
        "python": ("https://docs.python.org/3", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
        "scipy": ("https://docs.scipy.org/doc/scipy/", None),
        "scvi": ("https://docs.scvi-tools.org/en/stable/", None),
        "sklearn": ("https://scikit-learn.org/stable/", None),
        "torch": ("https://docs.pytorch.org/docs/stable/", None),
    }
    if online
    else {}
)
OTHERS = (
    *("anndata", "collections", "dask", "joblib", "lightning", "matplotlib", "mudata", "np", "numpy", "pandas"),
    *("pathlib", "scanpy", "scipy", "scvi", "skorch", "sklearn", "torch", "typing"),
)
BUILTINS = (
    *("bool", "bytes", "dict", "Ellipsis", "False", "float", "int", "list", "None", "object", "set", "str", "Tensor"),
    *("True", "tuple", "type", "UserWarning", "Warning", r"\w*Error"),
)
nitpick_ignore_regex = [(r"py:.*", rf"({'|'.join(OTHERS)})\..*"), (r"py:.*", f"({'|'.join(BUILTINS)})")]

# Look
html_theme = "sphinx_book_theme"
html_title = "psalm"
html_static_path = ["_static"]
html_css_files = ["psalm.css"]
html_theme_options = {
    "navbar_persistent": [],
    "show_toc_level": 2,
    "navigation_with_keys": False,
}


if REPOSITORY:
    html_theme_options |= {
        "repository_url": REPOSITORY,
        "use_repository_button": True,
        "use_issues_button": True,
        "path_to_docs": "docs",
    }


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """Address of an object's lines, where the repository has one."""
    if not REPOSITORY:
        return None
    import psalm

    found: object = psalm
    try:
        for name in f"{info['module']}.{info['fullname']}".split(".")[1:]:
            found = getattr(found, name)
        found = inspect.unwrap(found)
        file, (lines, first) = inspect.getsourcefile(found), inspect.getsourcelines(found)
    except (AttributeError, TypeError, OSError):
        return None
    path = Path(file or "").resolve()
    if ROOT not in path.parents:
        return None
    return f"{REPOSITORY}/blob/main/{path.relative_to(ROOT)}#L{first}-L{first + len(lines) - 1}"


def bring_tutorials() -> None:
    """Notebooks live beside the docs, for those who run them; Sphinx reads what is inside its folder only."""
    place = DOCS / "tutorials"
    place.mkdir(exist_ok=True)
    for path in (ROOT / "tutorials").glob("*.ipynb"):
        shutil.copy(path, place / path.name)


def spell_out_aliases() -> None:
    """Types that psalm names in quotes, so that importing it does not import matplotlib."""
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from psalm.pl import _axes

    _axes.OnAxes = Axes | Sequence[Axes] | None


def returns_in_prose(section: NumpyDocstring, _: str) -> list[str]:
    """Our "Returns" name the slots that are written, in sentences and lists; napoleon takes each line for a type."""
    lines = section._dedent(section._consume_to_next_section())
    return section._format_block(":return: ", lines[lines[0] == ":" :])  # the colon is sphinx-autodoc-typehints'


NumpyDocstring._parse_returns_section = returns_in_prose
spell_out_aliases()
bring_tutorials()
