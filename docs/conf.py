"""How the documentation is built: ``make docs``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

# before anything of ours is imported: pages show the help at this width, and nothing is fetched
os.environ['COLUMNS'] = '100'
os.environ.setdefault('HF_HUB_OFFLINE', '1')
os.environ.setdefault('TEMPLATEFLOW_AUTOUPDATE', 'off')
sys.path.insert(0, str(Path(__file__).parent))

from api_pages import write_api_pages

from bids_neurodecode import __version__

project = 'bids_neurodecode'
author = 'The bids_neurodecode developers'
copyright = author  # noqa: A001
version = release = __version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.doctest',
    'sphinx_copybutton',
    'sphinx_design',
    'sphinx_gallery.gen_gallery',
    'mathml',
]
html_math_renderer = 'mathml'
exclude_patterns = ['boutiques', 'hpc', 'examples']
suppress_warnings = [
    # a name that two modules have, said without its module
    'ref.python',
]
nitpicky = True
# No network: other projects' names are not resolved. Ours have to be.
nitpick_ignore_regex = [
    (r'py:.*', r'(?!bids_neurodecode\b).*'),
    # type variables are no part of the pages
    (r'py:.*', r'bids_neurodecode\..*T(_co|_contra)?'),
    # nor are functions inside of annotations, by which settings are read
    (r'py:.*', r'bids_neurodecode\.settings\w*\._\w+'),
    # nor are classes of one module alone, and the grid that a private field of betas holds
    (r'py:class', r'bids_neurodecode\..*\._\w+'),
    (r'py:class', r'bids_neurodecode\.api\.grids\.Grid'),
]

myst_enable_extensions = ['colon_fence', 'deflist', 'dollarmath', 'fieldlist']
myst_heading_anchors = 3

autodoc_typehints = 'signature'
autodoc_typehints_format = 'short'
autodoc_type_aliases = {'npt.ArrayLike': 'ArrayLike', 'Labels': 'ArrayLike'}
autodoc_member_order = 'bysource'
autodoc_default_options = {'members': True}
python_maximum_signature_line_length = 88
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_preprocess_types = False
napoleon_attr_annotations = False
# examples in docstrings run with the tests (pytest --doctest-modules), those of pages here
doctest_test_doctest_blocks = ''

# the examples are run when the site is built, and one that fails stops it
sphinx_gallery_conf = {
    'examples_dirs': 'examples',
    'gallery_dirs': 'gallery',
    'abort_on_example_error': True,
    'download_all_examples': False,
    'min_reported_time': 3600,
    'remove_config_comments': True,
    'show_memory': False,
    'within_subsection_order': 'FileNameSortKey',
    'write_computation_times': False,
}

html_theme = 'furo'
html_title = 'bids_neurodecode'
html_static_path = ['_static']
html_css_files = ['custom.css']
html_copy_source = False
html_show_sphinx = False
html_theme_options = {'navigation_with_keys': True}
copybutton_prompt_text = r'\$ |>>> |\.\.\. '
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = '\\'


def _quiet_models(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool:
    """Leave out what every pydantic model, torch module and estimator of scikit-learn has."""
    del app, what, obj, options
    routing = name.startswith('set_') and name.endswith('_request')
    return skip or routing or name in {'model_config', 'forward'}


def setup(app: Any) -> None:
    """Write the pages of the API before the sources are read."""
    app.connect('autodoc-skip-member', _quiet_models)
    app.connect('builder-inited', lambda app: write_api_pages(Path(app.srcdir) / 'api'))
