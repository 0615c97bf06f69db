"""Equations as MathML: every browser sets it, and no script is loaded from elsewhere."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)


def setup(app: Any) -> dict[str, Any]:
    """Register the renderer ``mathml`` with Sphinx."""
    app.add_html_math_renderer(
        'mathml', inline_renderers=(_inline, None), block_renderers=(_block, None)
    )
    return {'parallel_read_safe': True, 'parallel_write_safe': True}


def _inline(writer: Any, node: Any) -> None:
    writer.body.append(_mathml(node, 'inline'))
    raise nodes.SkipNode


def _block(writer: Any, node: Any) -> None:
    writer.body.append(f'<div class="equation">{_mathml(node, "block")}</div>\n')
    raise nodes.SkipNode


def _mathml(node: Any, display: str) -> str:
    """Return an equation; a command that is left in it was not understood, which is a warning."""
    text = str(convert(node.astext(), display=display))
    if '\\' in text or '&#x0005C;' in text:
        LOGGER.warning('equation not understood: %s', node.astext(), location=node)
    return text
