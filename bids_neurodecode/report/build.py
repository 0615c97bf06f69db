"""Pages: sections of text, figures, tables and images, written as one self-contained HTML file.

nireports assembles pages that load their style and scripts from other servers and link to
their figures, so a page is bare without a network and broken once it is moved. Its reportlets are
used where they fit; the page itself is a template of our own with everything inside it. It needs
no script, so its content security policy forbids any: names from a dataset stay text, whatever
they hold.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast
from urllib.parse import quote

from bids_neurodecode.bids.nouns import in_nouns
from bids_neurodecode.bids.sink import atomic, write_text
from bids_neurodecode.report.pictures import data_uri
from bids_neurodecode.report.style import to_svg
from bids_neurodecode.spaces import Form

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

PAGES = '<span class="pages">'
"""Before the links to other pages within a page."""
Tone = Literal['good', 'caution', 'bad', 'info']
T = TypeVar('T')


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
    details: tuple[str, ...] = ()
    """What it sums up, one line each; closed until it is clicked."""
    short: str = ''
    """The same in a few words, for a place in a table."""

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
class Interval:
    """A score with its interval on the scale of its metric, drawn as one line.

    All are shares of the scale, from 0 at its left to 1 at its right end; None where unknown.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    ceiling: float | None = None
    others: tuple[float, ...] = ()
    """What the score is held against, such as baselines."""
    says: str = ''
    """The same in words."""


@dataclass(frozen=True)
class Cell:
    """One place of a table where there is more than text: a note, its tone, a drawing."""

    text: str
    note: str = ''
    tone: Tone | None = None
    interval: Interval | None = None
    link: Path | None = None

    def __str__(self) -> str:
        """Return the text alone."""
        return self.text


@dataclass(frozen=True)
class Table:
    """Rows of text; columns in ``numeric`` are set flush right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
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
class Picture:
    """An image of a gallery; it grows when it is clicked."""

    alt: str
    image: Image | None
    link: Path | None = None
    """The file in full size."""
    missing: str = 'no image'
    """What stands in its place where there is none."""

    @property
    def uri(self) -> str | None:
        """The image as a ``data:`` address; None where it could not be read."""
        return None if self.image is None else data_uri(self.image)


@dataclass(frozen=True)
class Gallery:
    """Images in a grid: a column for each example, a row for each of its images."""

    groups: tuple[tuple[str, int], ...]
    """Titles over neighbouring columns, and how many columns each is over."""
    roles: tuple[str, ...]
    """What the rows show."""
    columns: tuple[tuple[Picture, ...], ...]
    """Of each example, an image of each role."""
    notes: tuple[str, ...]
    """Below each column."""
    caption: str
    links: tuple[tuple[str, Path], ...] = ()
    """Further files: what they are, and where."""
    plot: Plot | None = None
    """The same as one figure; written beside the page and linked, not shown twice."""
    kind: Literal['gallery'] = 'gallery'


@dataclass(frozen=True)
class Links:
    """Pages and files that belong to this one: what they are, and where."""

    entries: tuple[tuple[str, Path], ...]
    kind: Literal['links'] = 'links'


@dataclass(frozen=True)
class Jump:
    """A sentence that ends with a link to another section of the page."""

    text: str
    anchor: str
    title: str
    kind: Literal['jump'] = 'jump'


@dataclass(frozen=True)
class Viewer:
    """A page of its own, written beside the figures and linked: its name, how it is made."""

    name: str
    title: str
    make: Callable[[], str]
    kind: Literal['viewer'] = 'viewer'


@dataclass(frozen=True)
class Fold:
    """Blocks that are closed until they are clicked."""

    title: str
    blocks: tuple[Block, ...]
    anchor: str = ''
    """A link to it opens them."""
    kind: Literal['fold'] = 'fold'


@dataclass(frozen=True)
class Heading:
    """A title within a section."""

    text: str
    kind: Literal['heading'] = 'heading'


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


Block = (
    Text
    | Bullets
    | Verdicts
    | Headline
    | Table
    | Plot
    | Gallery
    | Links
    | Jump
    | Viewer
    | Fold
    | Heading
    | Code
    | References
)


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
    links: tuple[tuple[str, Path], ...] = ()
    """Other pages of the same output folder: their names and files."""


@dataclass(frozen=True)
class _Drawn:
    """A figure as the template needs it."""

    uri: str
    link: Path
    caption: str
    alt: str
    number: str
    kind: Literal['figure'] = 'figure'


@dataclass(frozen=True)
class _DrawnGallery:
    """A gallery as the template needs it."""

    gallery: Gallery
    links: tuple[tuple[str, Path], ...]
    kind: Literal['gallery'] = 'gallery'


@dataclass(frozen=True)
class _DrawnFold:
    """A fold as the template needs it."""

    title: str
    blocks: tuple[object, ...]
    anchor: str
    kind: Literal['fold'] = 'fold'


def write_page(page: Page, html: Path, figures_dir: Path, form: Form | None) -> tuple[Path, ...]:
    """Write the page, and each figure as SVG beside it; all its words call columns what they are.

    Parameters
    ----------
    page
        What to write.
    html
        The file to write; its folder must exist.
    figures_dir
        Where the figures go; made where it is missing.
    form
        Of the data: what columns are called (:mod:`bids_neurodecode.bids.nouns`). None: voxels.

    Returns
    -------
    tuple of Path
        The figures written, in the order of the page.
    """
    if form is not None:
        page = reworded(page, partial(in_nouns, form=form))
    drawing = _Drawing(figures_dir, [])
    sections = [
        {
            'anchor': section.anchor,
            'title': section.title,
            'blocks': [drawing.block(block) for block in section.blocks],
        }
        for section in page.sections
    ]
    write_text(html, render(page, sections, html.parent))
    return tuple(drawing.written)


def reworded(value: T, word: Callable[[str], str]) -> T:
    """Return a page, or a part of one, in other words; figures are changed where they are.

    Files, settings and references stay, and so does a cell of a single word, which is a name.

    Parameters
    ----------
    value
        Text, a block, a cell, or several.
    word
        Returns a text in other words.
    """
    again = partial(reworded, word=word)
    found: Any = value
    if isinstance(value, str):
        found = word(value)
    elif isinstance(value, tuple):
        found = tuple(map(again, value))
    elif isinstance(value, Table):
        rows = tuple(
            tuple(
                cell if ' ' not in str(cell) and isinstance(cell, str) else again(cell)
                for cell in row
            )
            for row in value.rows
        )
        found = replace(
            value, columns=again(value.columns), rows=rows, caption=again(value.caption)
        )
    elif isinstance(value, Plot):
        _reword_figure(value.figure, word)
        found = replace(value, caption=word(value.caption), alt=word(value.alt))
    elif isinstance(value, Viewer):
        found = replace(value, title=word(value.title))
    elif is_dataclass(value) and not isinstance(value, (Code, Links, References, type)):
        found = replace(value, **{f.name: again(getattr(value, f.name)) for f in fields(value)})
    return cast(T, found)


def _reword_figure(figure: Figure, word: Callable[[str], str]) -> None:
    from matplotlib.text import Text as Label

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            names = [label.get_text() for label in axis.get_majorticklabels()]
            if (new := list(map(word, names))) != names:  # they are written anew when drawn
                axis.set_ticks(axis.get_majorticklocs(), new)
    for label in figure.findobj(Label):
        label.set_text(word(label.get_text()))


@dataclass
class _Drawing:
    """Draws the figures of a page one after the other, and numbers those that it shows."""

    folder: Path
    written: list[Path]
    number: int = 0
    folded: int = 0
    """Figures within folds have numbers of their own: S1, S2, ..."""
    depth: int = 0

    def block(self, block: Block) -> object:
        """Return a block as the template needs it; its figures are written."""
        if isinstance(block, Plot):
            if self.depth:
                self.folded += 1
            else:
                self.number += 1
            number = f'S{self.folded}' if self.depth else str(self.number)
            svg, path = self.save(block)
            return _Drawn(_svg_uri(svg), path, block.caption, block.alt, number)
        if isinstance(block, Gallery):
            more = (
                () if block.plot is None else (('as one figure (SVG)', self.save(block.plot)[1]),)
            )
            return _DrawnGallery(block, (*block.links, *more))
        if isinstance(block, Viewer):
            path = self.folder / block.name
            write_text(path, block.make())
            return Links(((block.title, path),))
        if isinstance(block, Fold):
            self.depth += 1
            blocks = tuple(self.block(inner) for inner in block.blocks)
            self.depth -= 1
            return _DrawnFold(block.title, blocks, block.anchor)
        return block

    def save(self, plot: Plot) -> tuple[bytes, Path]:
        """Write a figure; return it, and its file."""
        svg = to_svg(plot.figure)
        path = self.folder / plot.name
        with atomic(path) as temporary:
            temporary.write_bytes(svg)
        self.written.append(path)
        return svg, path


def pages_beside(html: Path) -> tuple[tuple[str, Path], ...]:
    """Return the other pages of an output folder: the group's first, then the participants'."""
    folder = html.parent
    pages = [*sorted(folder.glob('group*.html')), *sorted(folder.glob('sub-*.html'))]
    names = {'group': 'group report'}
    return tuple((names.get(page.stem, page.stem.replace('_', ' ')), page) for page in pages)


def link_pages(folder: Path) -> None:
    """Link the pages of the participants in a folder to the group's page and to each other.

    Pages are written by processes that do not wait for each other, so a page knows of those that
    were there before it; the group's comes last.
    """
    for html in sorted(folder.glob('sub-*.html')):
        text = html.read_text('utf-8')
        links = tuple(link for link in pages_beside(html) if link[1] != html)
        linked = _with_links(text, _pages(links, folder))
        if linked != text:
            write_text(html, linked)


def unlinked(text: str) -> str:
    """Return a page without its links to other pages, which come and go with those."""
    return _with_links(text, '')


def _with_links(text: str, links: str) -> str:
    """Return a page with other links to other pages, where it has a place for them."""
    before, _, rest = text.partition(PAGES)
    return f'{before}{links}{rest.partition("</span>")[2]}' if rest else text


def _pages(links: Sequence[tuple[str, Path]], folder: Path) -> str:
    """Return links to other pages as HTML; names of files are escaped."""
    from markupsafe import escape

    items = (f' · <a href="{_href(path, folder)}">{escape(name)}</a>' for name, path in links)
    return f'{PAGES}{"".join(items)}</span>'


def _href(path: Path, folder: Path) -> str:
    return quote(Path(os.path.relpath(path, folder)).as_posix())


def render(page: Page, sections: Sequence[object], folder: Path) -> str:
    """Fill in the template; every text is escaped by it.

    Parameters
    ----------
    page
        Its title, subtitle and links.
    sections
        With their blocks as the template needs them.
    folder
        Where the page lies: links are relative to it.
    """
    import jinja2
    from markupsafe import Markup

    data = resources.files('bids_neurodecode') / 'data' / 'report'
    style = (data / 'report.css').read_text('utf-8')
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters['href'] = lambda path: _href(path, folder)
    template = environment.from_string((data / 'report.html.j2').read_text('utf-8'))
    # the style is the one text that is let through as it is, and it is named by its own digest
    digest = base64.b64encode(hashlib.sha256(style.encode('utf-8')).digest()).decode('ascii')
    return template.render(
        page=page,
        pages=Markup(_pages(page.links, folder)),
        sections=sections,
        style=Markup(style),
        digest=digest,
    )


def _svg_uri(svg: bytes) -> str:
    return 'data:image/svg+xml;base64,' + base64.b64encode(svg).decode('ascii')
