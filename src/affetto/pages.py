"""One report, two faces: a list of blocks becomes Markdown, or one HTML page that needs no other file."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from affetto.runs import atomic_write, write_text

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph of plain text; ``alarm`` sets it off as a warning."""

    text: str
    alarm: bool = False


@dataclass(frozen=True)
class Table:
    """A table of text; ``right`` says which columns hold numbers, ``folded`` hides it behind its caption."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    right: Sequence[bool] = field(default_factory=tuple)
    folded: bool = False


@dataclass(frozen=True)
class Picture:
    """A PNG with the file name it has beside the Markdown, and words for those who cannot see it."""

    name: str
    alt: str
    png: bytes


Block = Heading | Text | Table | Picture


def percent(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """Writes a fraction as percent with one decimal, and its interval in brackets: ``65.5 [63.9, 67.1]``."""
    if value is None or value != value:
        return ""
    text = f"{100 * value:.1f}"
    return text if low is None or high is None else f"{text} [{100 * low:.1f}, {100 * high:.1f}]"


def points(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """Writes a difference of fractions in percentage points with its sign: ``+3.1 [+1.2, +5.0]``."""
    if value is None or value != value:
        return ""
    signed = [
        f"{100 * number:+.1f}".replace("-", MINUS) for number in (value, low, high) if number is not None
    ]
    return signed[0] if len(signed) < 3 else f"{signed[0]} [{signed[1]}, {signed[2]}]"


def decimal(
    value: float | None, low: float | None = None, high: float | None = None, *, sign: bool = False
) -> str:
    """Writes a figure with two decimals, and its interval in brackets: ``0.38 [0.36, 0.40]``.

    Args:
        value: nothing is written for None and NaN.
        low: lower end.
        high: upper end.
        sign: whether a plus is written too, as for a difference.
    """
    if value is None or value != value:
        return ""
    text = [
        f"{round(number, 2) + 0.0:{'+' if sign else ''}.2f}".replace("-", MINUS)
        for number in (value, low, high)
        if number is not None
    ]
    return text[0] if len(text) < 3 else f"{text[0]} [{text[1]}, {text[2]}]"


def markdown(blocks: Sequence[Block]) -> str:
    """Renders blocks as Markdown that names its pictures as files beside it."""
    parts = []
    for block in blocks:
        if isinstance(block, Heading):
            parts.append(f"{'#' * block.level} {_plain(block.text)}")
        elif isinstance(block, Text):
            parts.append(f"> **{_plain(block.text)}**" if block.alarm else _plain(block.text))
        elif isinstance(block, Picture):
            parts.append(f"![{_plain(block.alt)}]({block.name})")
        else:
            parts.append(markdown_table(block))
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """Renders one table as Markdown, its caption above it."""
    right = list(table.right) or [False] * len(table.heads)
    lines = [f"*{_plain(table.caption)}*", ""] if table.caption else []
    lines.append("| " + " | ".join(map(_cell, table.heads)) + " |")
    lines.append("|" + "|".join("---:" if number else "---" for number in right) + "|")
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in table.rows]
    return "\n".join(lines)


def page(title: str, blocks: Sequence[Block]) -> str:
    """Renders blocks as one HTML page: pictures and style inside, for light and dark screens."""
    body = "\n".join(_html(block) for block in blocks)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def write(folder: Path, title: str, blocks: Sequence[Block]) -> None:
    """Writes ``report.md``, ``report.html`` and the pictures into a folder."""
    for block in blocks:
        if isinstance(block, Picture):
            with atomic_write(folder / block.name) as temporary:
                temporary.write_bytes(block.png)
    write_text(folder / "report.md", markdown(blocks))
    write_text(folder / "report.html", page(title, blocks))


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
    if isinstance(block, Text):
        mark = ' class="alarm"' if block.alarm else ""
        return f"<p{mark}>{html.escape(block.text)}</p>"
    if isinstance(block, Picture):
        data = base64.b64encode(block.png).decode("ascii")
        return f'<figure><img src="data:image/png;base64,{data}" alt="{html.escape(block.alt)}"></figure>'
    return _html_table(block)


def _html_table(table: Table) -> str:
    right = list(table.right) or [False] * len(table.heads)
    marks = [' class="n"' if number else "" for number in right]
    head = "".join(
        f'<th scope="col"{mark}>{html.escape(name)}</th>'
        for mark, name in zip(marks, table.heads, strict=True)
    )
    rows = "\n".join(
        "<tr>"
        + "".join(f"<td{mark}>{html.escape(cell)}</td>" for mark, cell in zip(marks, row, strict=True))
        + "</tr>"
        for row in table.rows
    )
    caption = html.escape(table.caption)
    inner = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    if table.folded:
        return f'<details><summary>{caption}</summary><div class="wide"><table>{inner}</details>'
    return f'<div class="wide"><table>{f"<caption>{caption}</caption>" if caption else ""}{inner}'


def _plain(text: str) -> str:
    escaped = " ".join(text.split())
    for sign in ("\\", "*", "`", "[", "]"):
        escaped = escaped.replace(sign, "\\" + sign)
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1d1f23; --soft: #5b6069; --line: #d9dce1; --ground: #ffffff; --band: #f5f6f8;
  --alarm: #a3001b; --alarm-ground: #fdecee;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e7e9ec; --soft: #a2a8b1; --line: #3a3f47; --ground: #16181c; --band: #1f2228;
    --alarm: #ff9aa6; --alarm-ground: #3a161b;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .75rem; }
h2 {
  font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-bottom: .25rem;
  border-bottom: 1px solid var(--line);
}
p { margin: .5rem 0; max-width: 48rem; }
.alarm {
  border-left: 4px solid var(--alarm); background: var(--alarm-ground); color: var(--alarm);
  padding: .6rem .9rem; font-weight: 600;
}
.wide { overflow-x: auto; margin: .6rem 0 1rem; }
table { border-collapse: collapse; font-size: .93rem; min-width: min(34rem, 100%); }
caption { text-align: left; color: var(--soft); padding-bottom: .35rem; }
th, td {
  padding: .32rem .75rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
}
th { color: var(--soft); font-weight: 600; }
tbody tr:nth-child(even) { background: var(--band); }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
details { margin: .6rem 0; }
summary { cursor: pointer; color: var(--soft); }
figure { margin: .8rem 0; }
img {
  max-width: 100%; max-height: 42rem; height: auto; background: #fff; padding: .5rem;
  border: 1px solid var(--line); border-radius: .4rem;
}
"""
