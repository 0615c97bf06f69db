"""Pages: sections of text, figures, tables and pictures, written as one self-contained HTML file.

nireports assembles pages that load their style and scripts from content networks and link to
their figures, so a page is bare without a network and broken once it is moved. Its reportlets are
used where they fit; the page itself is a template of our own with everything inside it. It needs
no script, so its content policy forbids any: names from a dataset stay text whatever they hold.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bids_neurodecode.bids.sink import atomic, write_text
from bids_neurodecode.report.pictures import data_uri
from bids_neurodecode.report.style import to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

Tone = Literal['good', 'caution', 'bad', 'info']


@dataclass(frozen=True)
class Text:
    """Paragraphs."""

    paragraphs: tuple[str, ...]
    kind: Literal['text'] = 'text'


@dataclass(frozen=True)
class Bullets:
    """A list of short lines."""

    items: tuple[str, ...]
    kind: Literal['bullets'] = 'bullets'


@dataclass(frozen=True)
class Verdict:
    """One line of judgement with its tone, which is also said in a word."""

    tone: Tone
    text: str

    @property
    def word(self) -> str:
        """The tone in a word, so that colour is not its only sign."""
        return {'good': 'Good', 'caution': 'Caution', 'bad': 'Problem', 'info': 'Note'}[self.tone]


@dataclass(frozen=True)
class Verdicts:
    """Several judgements."""

    items: tuple[Verdict, ...]
    kind: Literal['verdicts'] = 'verdicts'


@dataclass(frozen=True)
class Headline:
    """The main number, what it is, and what it is to be compared with."""

    value: str
    label: str
    facts: tuple[tuple[str, str], ...] = ()
    kind: Literal['headline'] = 'headline'


@dataclass(frozen=True)
class Table:
    """Rows of text; columns in ``numeric`` are set flush right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    numeric: frozenset[int] = frozenset()
    folded: bool = False
    """Closed until it is clicked (long tables)."""
    kind: Literal['table'] = 'table'


@dataclass(frozen=True)
class Plot:
    """A figure: its file name, what it shows, and what a reader who cannot see it should know."""

    name: str
    figure: Figure
    caption: str
    alt: str
    kind: Literal['figure'] = 'figure'


@dataclass(frozen=True)
class Pair:
    """Two pictures beside each other, with their names and a line below."""

    note: str
    names: tuple[str, str]
    pictures: tuple[Image | None, Image | None]

    @property
    def uris(self) -> tuple[str | None, str | None]:
        """The pictures as ``data:`` addresses; None where one could not be read."""
        first, second = (None if p is None else data_uri(p) for p in self.pictures)
        return first, second


@dataclass(frozen=True)
class Gallery:
    """Rows of pairs, each row under a title."""

    rows: tuple[tuple[str, tuple[Pair, ...]], ...]
    caption: str
    plot: Plot
    """The same as one figure; written beside the page and linked, not shown twice."""
    kind: Literal['gallery'] = 'gallery'


@dataclass(frozen=True)
class Code:
    """Text as it is, such as a settings file."""

    title: str
    content: str
    kind: Literal['code'] = 'code'


@dataclass(frozen=True)
class References:
    """A reference list: text and, where there is one, the address it links to."""

    entries: tuple[tuple[str, str | None], ...]
    title: str = 'References'
    kind: Literal['references'] = 'references'


Block = Text | Bullets | Verdicts | Headline | Table | Plot | Gallery | Code | References


@dataclass(frozen=True)
class Section:
    """A part of the page under its own heading."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """A whole page."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    footer: str = ''


@dataclass(frozen=True)
class _Drawn:
    """A figure as the template needs it."""

    uri: str
    link: str
    caption: str
    alt: str
    number: int
    kind: Literal['figure'] = 'figure'


@dataclass(frozen=True)
class _DrawnGallery:
    """A gallery as the template needs it."""

    rows: tuple[tuple[str, tuple[Pair, ...]], ...]
    caption: str
    link: str
    kind: Literal['gallery'] = 'gallery'


def write_page(page: Page, html: Path, figures_dir: Path) -> tuple[Path, ...]:
    """Write the page, and each figure as SVG beside it.

    Parameters
    ----------
    page
        What to write.
    html
        The file to write; its folder must exist.
    figures_dir
        Where the figures go; made where it is missing.

    Returns
    -------
    tuple of Path
        The figures written, in the order of the page.
    """
    written: list[Path] = []
    sections = []
    number = 0
    for section in page.sections:
        blocks: list[object] = []
        for block in section.blocks:
            if isinstance(block, Plot):
                number += 1
                svg, path = _save(block, figures_dir)
                link = _relative(path, html)
                blocks.append(_Drawn(_svg_uri(svg), link, block.caption, block.alt, number))
                written.append(path)
            elif isinstance(block, Gallery):
                _, path = _save(block.plot, figures_dir)
                blocks.append(_DrawnGallery(block.rows, block.caption, _relative(path, html)))
                written.append(path)
            else:
                blocks.append(block)
        sections.append({'anchor': section.anchor, 'title': section.title, 'blocks': blocks})
    write_text(html, render(page, sections))
    return tuple(written)


def _save(plot: Plot, folder: Path) -> tuple[bytes, Path]:
    svg = to_svg(plot.figure)
    path = folder / plot.name
    with atomic(path) as temporary:
        temporary.write_bytes(svg)
    return svg, path


def _relative(path: Path, html: Path) -> str:
    return Path(os.path.relpath(path, html.parent)).as_posix()


def render(page: Page, sections: Sequence[object]) -> str:
    """Fill in the template; every text is escaped by it."""
    import jinja2
    from markupsafe import Markup

    folder = resources.files('bids_neurodecode') / 'data' / 'report'
    style = (folder / 'report.css').read_text('utf-8')
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((folder / 'report.html.j2').read_text('utf-8'))
    # the style is the one text that is let through as it is, and it is named by its own digest
    digest = base64.b64encode(hashlib.sha256(style.encode('utf-8')).digest()).decode('ascii')
    return template.render(page=page, sections=sections, style=Markup(style), digest=digest)


def _svg_uri(svg: bytes) -> str:
    return 'data:image/svg+xml;base64,' + base64.b64encode(svg).decode('ascii')
