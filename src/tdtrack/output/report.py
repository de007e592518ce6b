"""A short HTML page that shows what a run made: numbers, tables, pictures, videos, commands.

The page is one file without scripts; pictures and videos are linked by their path relative to it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from tdtrack.errors import OutputError, ShapeError
from tdtrack.files import atomic_write

__all__ = ["Bars", "Commands", "Figure", "Number", "Section", "Table", "Text", "Video", "write_html_report"]


@dataclass(frozen=True, slots=True)
class Number:
    """A headline number.

    Attributes:
        label: what it is, a few words.
        value: as it is to be read, with its unit.
        note: what to compare it with; may be empty.
    """

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first column is a name, the others are numbers.

    Attributes:
        columns: headings.
        rows: cells as they are to be read, one per column.
        caption: what the table says and how it was measured; may be empty.
        highlight: row to emphasise, from 0; ``None`` is none.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    highlight: int | None = None


@dataclass(frozen=True, slots=True)
class Bars:
    """Named amounts as bars of proportional length, for instance seconds per stage.

    Attributes:
        rows: name, amount from 0, and the amount as it is to be read.
        caption: what is shown; may be empty.
    """

    rows: Sequence[tuple[str, float, str]]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture.

    Attributes:
        path: the image file.
        caption: what it shows; also read to those who cannot see it.
    """

    path: Path
    caption: str


@dataclass(frozen=True, slots=True)
class Video:
    """A video with controls.

    Attributes:
        path: the mp4 file.
        caption: what it shows.
    """

    path: Path
    caption: str


@dataclass(frozen=True, slots=True)
class Commands:
    """Lines for a terminal.

    Attributes:
        text: the lines.
        caption: what they do; may be empty.
    """

    text: str
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph.

    Attributes:
        text: plain text.
    """

    text: str


Block = Table | Bars | Figure | Video | Commands | Text


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        blocks: what is in it, from top to bottom.
    """

    title: str
    blocks: Sequence[Block]


def write_html_report(
    path: Path,
    *,
    title: str,
    summary: str,
    numbers: Sequence[Number] = (),
    sections: Sequence[Section] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write the page. All text is escaped, so that names and captions may hold any character.

    Args:
        path: HTML file to write. Pictures and videos should lie in its folder or below, so that they move together.
        title: heading of the page and of the browser's tab.
        summary: one or two sentences under the heading.
        numbers: headline numbers.
        sections: the parts, in order.
        notes: small print at the foot, one line each: versions, seeds, licences.

    Returns:
        ``path``.

    Raises:
        OutputError: the page cannot be written, or a picture or video is not there.
        ShapeError: a table's row does not have one cell per column.
    """
    folder = path.parent
    parts = [f'<header><p class="mark">tdtrack</p><h1>{escape(title)}</h1><p class="lead">{escape(summary)}</p></header>']
    if numbers:
        parts.append(f'<div class="numbers">{"".join(_number(item) for item in numbers)}</div>')
    for section in sections:
        body = "\n".join(_block(block, folder) for block in section.blocks)
        parts.append(f"<section><h2>{escape(section.title)}</h2>\n{body}</section>")
    if notes:
        parts.append(f"<footer>{''.join(f'<p>{escape(note)}</p>' for note in notes)}</footer>")
    page = _PAGE.format(title=escape(title), style=_STYLE, body="\n".join(parts))
    with atomic_write(path) as file:
        file.write(page)
    return path


def _number(item: Number) -> str:
    note = f'<p class="note">{escape(item.note)}</p>' if item.note else ""
    return f'<div class="number"><p class="label">{escape(item.label)}</p><p class="value">{escape(item.value)}</p>{note}</div>'


def _block(block: Block, folder: Path) -> str:
    match block:
        case Table():
            return _framed(_table(block), block.caption)
        case Bars():
            return _framed(_bars(block), block.caption)
        case Figure():
            link, alternative = _link(block.path, folder), escape(block.caption, quote=True)
            return _framed(f'<a href="{link}"><img src="{link}" alt="{alternative}"></a>', block.caption)
        case Video():
            # The time makes browsers show a frame instead of black before the first play.
            tag = f'<video controls muted loop playsinline preload="auto" src="{_link(block.path, folder)}#t=0.1"></video>'
            return _framed(tag, block.caption)
        case Commands():
            return _framed(f"<pre><code>{escape(block.text.strip())}</code></pre>", block.caption)
        case Text():
            return f"<p>{escape(block.text)}</p>"


def _framed(content: str, caption: str) -> str:
    return f"<figure>{content}{f'<figcaption>{escape(caption)}</figcaption>' if caption else ''}</figure>"


def _table(table: Table) -> str:
    for row in table.rows:
        if len(row) != len(table.columns):
            raise ShapeError(
                f"a table has {len(table.columns)} columns ({', '.join(table.columns)}) but a row of {len(row)} cells"
            )
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    rows = []
    for index, row in enumerate(table.rows):
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        mark = ' class="highlight"' if index == table.highlight else ""
        rows.append(f'<tr{mark}><th scope="row">{escape(row[0])}</th>{cells}</tr>')
    body = "\n".join(rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _bars(bars: Bars) -> str:
    longest = max((amount for _, amount, _ in bars.rows), default=0.0) or 1.0
    rows = [
        f'<div class="bar"><span class="name">{escape(name)}</span>'
        f'<span class="track"><span style="width:{100 * max(amount, 0.0) / longest:.1f}%"></span></span>'
        f'<span class="amount">{escape(text)}</span></div>'
        for name, amount, text in bars.rows
    ]
    return f'<div class="bars">{"".join(rows)}</div>'


def _link(path: Path, folder: Path) -> str:
    if not path.is_file():
        raise OutputError(f"the page shows {path}, which is not there; write it before the page")
    return escape(quote(Path(os.path.relpath(path, folder)).as_posix()), quote=True)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

_STYLE = """:root {
  --paper: #f6f7f9; --card: #ffffff; --ink: #1c2127; --soft: #5b6470; --line: #e3e7ec; --accent: #12805c; --tint: #e8f5ef;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --card: #1c2026; --ink: #e7eaee; --soft: #9aa4b1; --line: #2e343c; --accent: #4cc79a; --tint: #1a2f28;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem 3rem; }
p { margin: 0 0 .75rem; max-width: 44rem; }
h1 { margin: 0 0 .5rem; font-size: clamp(1.6rem, 4vw, 2.2rem); line-height: 1.2; letter-spacing: -.015em; }
h2 { margin: 2.5rem 0 .75rem; font-size: 1.2rem; letter-spacing: -.005em; }
.mark { margin: 0 0 .75rem; color: var(--accent); font-weight: 700; letter-spacing: .02em; }
.lead { font-size: 1.1rem; color: var(--soft); text-wrap: pretty; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin-top: 1.5rem; }
.number, figure { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; }
.number { padding: .9rem 1rem; }
.number p { margin: 0; }
.number .label { font-size: .85rem; color: var(--soft); }
.number .value { font-size: 1.75rem; font-weight: 650; line-height: 1.3; font-variant-numeric: tabular-nums; }
.number .note { font-size: .8rem; line-height: 1.4; color: var(--soft); }
figure { margin: 0 0 1rem; overflow: hidden; }
figcaption { padding: .7rem 1rem; border-top: 1px solid var(--line); font-size: .88rem; color: var(--soft); }
img, video { display: block; width: 100%; height: auto; }
img { padding: .9rem; background: #fff; }
video { background: #000; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .6rem 1rem; text-align: right; white-space: nowrap; }
th:first-child { text-align: left; }
thead th { font-size: .82rem; font-weight: 600; color: var(--soft); border-bottom: 1px solid var(--line); }
tbody th { font-weight: 500; }
tbody tr + tr > * { border-top: 1px solid var(--line); }
tr.highlight > * { background: var(--tint); font-weight: 650; }
.bars { padding: .8rem 1rem; }
.bar {
  display: grid; grid-template-columns: minmax(6rem, 20rem) 1fr 5.5rem;
  gap: .3rem .9rem; align-items: center; padding: .22rem 0;
}
.bar .track { height: .6rem; border-radius: .3rem; background: var(--line); overflow: hidden; }
.bar .track span { display: block; height: 100%; border-radius: .3rem; background: var(--accent); }
.bar .amount { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; color: var(--soft); }
pre {
  margin: 0; padding: .9rem 1rem; overflow-x: auto;
  font: .88rem/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace;
}
footer { margin-top: 2.5rem; padding-top: 1rem; border-top: 1px solid var(--line); font-size: .82rem; color: var(--soft); }
footer p { margin: 0 0 .25rem; max-width: none; overflow-wrap: anywhere; }
@media (max-width: 34rem) {
  .bar { grid-template-columns: 1fr auto; padding: .4rem 0; }
  .bar .track { grid-column: 1 / -1; grid-row: 2; }
  th, td { padding: .55rem .6rem; }
  tbody th { white-space: normal; min-width: 8rem; }
}
@media print { body { background: #fff; } figure, .number { break-inside: avoid; } }
"""
