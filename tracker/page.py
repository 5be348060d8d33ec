"""Pages that hold all that they show: one HTML file, which asks nobody for anything."""

import base64
import io
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["YELLOW", "as_jpeg", "as_png", "as_svg", "new_figure", "page", "table"]

#: Of Okabe and Ito's palette; hard to see on white, so that it is darkened there.
YELLOW = "#f0e442"
_PNG_DPI = 110


def page(title: str, body: str) -> str:
    """Lay out a page; light or dark as the reader's system is, and light on paper.

    Parameters
    ----------
    title : str
        Plain text.
    body : str
        HTML, as :func:`table` and the like make it.
    """
    name = escape(title)
    return _PAGE.replace("TITLE", name).replace("BODY", body)


def table(rows: Iterable[Sequence[str]], head: Sequence[str] = ()) -> str:
    """Make a table of plain text; two blanks before a text set it under the row before."""

    def line(cells: Sequence[str], tag: str) -> str:
        texts = (escape(c).replace("  ", "&emsp;") for c in cells)
        return "<tr>" + "".join(f"<{tag}>{t}</{tag}>" for t in texts) + "</tr>"

    lines = [line(head, "th")] if head else []
    lines += [line(row, "td") for row in rows]
    return "\n".join(["<table>", *lines, "</table>"])


def new_figure(width_in: float, height_in: float) -> "Figure":
    """Begin a figure of this size in inches."""
    # Without pyplot there is no state to share and no window system to look for.
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), dpi=_PNG_DPI, layout="constrained")


def as_png(figure: "Figure", description: str) -> str:
    """Put a figure on the page as a picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return _picture(buffer.getvalue(), "png", description)


def as_jpeg(data: bytes, description: str) -> str:
    """Put a picture that is encoded already on the page."""
    return _picture(data, "jpeg", description)


def _picture(data: bytes, kind: str, description: str) -> str:
    text = base64.b64encode(data).decode()
    return f'<img alt="{escape(description)}" src="data:image/{kind};base64,{text}">'


def as_svg(figure: "Figure", description: str) -> str:
    """Put a figure on the page as lines; black takes the colour of the page's text."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    # Text stays text, and names of parts do not change from one call to the next.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": description}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    head, _, text = buffer.getvalue().partition("<svg ")[2].partition(">")
    head = re.sub(r'\b(?:width|height)="[^"]*"', "", head)  # it is as wide as the page
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[a-zA-Z0-9]+_\d+"', "", text)  # of parts that nothing refers to
    text = text.replace("#000000", "currentColor").replace(YELLOW, "var(--yellow)")
    return f'<svg role="img" aria-label="{escape(description)}" {head}>{text}'


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>veintrack: TITLE</title>
<style>
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --line: #ddd; --yellow: #a89a00; }
@media (prefers-color-scheme: dark) {
:root { --ink: #e6e6e6; --paper: #16181b; --line: #3a3e44; --yellow: #f0e442; }
}
@media print {
:root { color-scheme: light; --ink: #000; --paper: #fff; --line: #bbb; --yellow: #a89a00; }
}
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em;
color: var(--ink); background: var(--paper); }
table { display: block; overflow-x: auto; border-collapse: collapse;
font-variant-numeric: tabular-nums; }
td, th { border-bottom: 1px solid var(--line); padding: .15em 1.5em .15em 0; text-align: left;
vertical-align: top; }
img, svg { max-width: 100%; }
td:first-child { white-space: nowrap; }
svg { width: 100%; height: auto; }
svg text { fill: currentColor; }
figure { margin: 0; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(24em, 1fr)); gap: 1em; }
.notice { font-weight: bold; }
@media print {
body { font-size: 10pt; max-width: none; margin: 0; }
.pictures { grid-template-columns: 1fr 1fr; }
h2, h3 { break-after: avoid; }
img, svg, figure, tr { break-inside: avoid; }
details::details-content { content-visibility: visible; }
}
</style>
</head>
<body>
<h1>TITLE</h1>
BODY
</body>
</html>
"""
