"""Sphinx builds the site from this: ``make docs``. It fetches nothing."""

import os
import re
import sys
from pathlib import Path

import matplotlib
from numpydoc.docscrape_sphinx import SphinxDocString

import sklearn_halrp

sys.path.insert(0, str(Path(__file__).parent))  # for gallery_order
matplotlib.use("agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # what a picture shows must not depend on cores

project = "sklearn_halrp"
copyright = "the sklearn_halrp developers"
version = release = sklearn_halrp.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = [
    "examples",  # sphinx-gallery makes auto_examples of it
]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# --- API ---------------------------------------------------------------------------------

autosummary_generate = True
autosummary_ignore_module_all = False  # a module's page lists what is in its __all__
autodoc_typehints = "none"
numpydoc_show_class_members = False  # the templates list them
numpydoc_xref_param_type = False

nitpicky = True
# What other projects document: the build does not reach their sites.
nitpick_ignore_regex = [("py:.*", r"(sklearn|skorch|torch|numpy|pandas|matplotlib)\..*")]


def escape_types(app, what, name, obj, options, lines):
    """Keep ``*sample_shape`` and ``n_features_in_`` in the types of parameters as they are."""
    for i, line in enumerate(lines):
        if re.match(r"\s*[\w, ]+ : .*shape", line):
            lines[i] = re.sub(r"\*(?=\w)", r"\\*", re.sub(r"_(?=[,)])", r"\\_", line))


def keep_descriptions(self, param, desc, fake_autosummary):
    """Describe attributes as the class does; numpydoc would take their properties' first line."""
    return f"**{self._escape_args_and_kwargs(param.strip())}**", desc


def setup(app):
    """Register what is defined here; before numpydoc, which comes at 500."""
    SphinxDocString._process_param = keep_descriptions
    app.connect("autodoc-process-docstring", escape_types, priority=400)


# --- examples ----------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": "examples/gallery",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "gallery_order.place",
    "backreferences_dir": "api/backreferences",
    "doc_module": ("sklearn_halrp",),
    "reference_url": {"sklearn_halrp": None},
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "write_computation_times": False,
    "capture_repr": ("_repr_html_",),  # tables, and not where an object lies in memory
    "run_stale_examples": True,  # the package may have changed though the example has not
    "image_srcset": ["2x"],
}

# --- pages -------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = f"sklearn_halrp {release}"
html_static_path = ["_static"]
html_favicon = "_static/icon.svg"
html_css_files = ["site.css"]
html_show_sourcelink = False
toc_object_entries_show_parents = "hide"
html_context = {"default_mode": "auto"}
html_sidebars = {
    "index": [],
    "start": [],
    "migrating": [],
    "changes": [],
    "scripts": [],
}
html_theme_options = {
    "logo": {
        "text": "sklearn_halrp",
        "image_light": "_static/icon.svg",
        "image_dark": "_static/icon.svg",
        "alt_text": "sklearn_halrp: home",
    },
    "show_prev_next": True,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_toc_level": 2,
}
