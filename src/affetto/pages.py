"""Pages: a title and a list of blocks, written as Markdown or as one HTML page that needs no other file."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import ClassVar, NamedTuple

from affetto.runs import atomic_write, write_text

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Heading:
    """A heading below the title."""

    kind: ClassVar = "heading"
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph of plain text; ``alarm`` sets it off as a warning."""

    kind: ClassVar = "text"
    text: str
    alarm: bool = False


@dataclass(frozen=True)
class Table:
    """A table of text; ``right`` marks the columns of numbers, ``folded`` hides it behind its caption.

    Without ``right`` all columns but the first hold numbers.
    """

    kind: ClassVar = "table"
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    right: Sequence[bool] = ()
    folded: bool = False

    def is_number(self, column: int) -> bool:
        """Whether a column holds numbers."""
        return self.right[column] if self.right else column > 0

    def markdown(self) -> str:
        """Returns the table as Markdown, its caption above it."""
        lines = [f"*{_plain(self.caption)}*", ""] if self.caption else []
        lines.append(_row(self.heads))
        rules = ("---:" if self.is_number(column) else "---" for column in range(len(self.heads)))
        lines.append(f"|{'|'.join(rules)}|")
        return "\n".join([*lines, *map(_row, self.rows)])


@dataclass(frozen=True)
class Picture:
    """A PNG, the name of its file next to the Markdown, and a description for screen readers."""

    kind: ClassVar = "picture"
    name: str
    alt: str
    png: bytes

    @property
    def data(self) -> str:
        """The PNG in base64."""
        return base64.b64encode(self.png).decode("ascii")


Block = Heading | Text | Table | Picture


class Page(NamedTuple):
    """A title and what is below it."""

    title: str
    blocks: Sequence[Block]

    def markdown(self) -> str:
        """Returns Markdown that names the pictures as files next to it."""
        return "\n\n".join([f"# {_plain(self.title)}", *map(_markdown, self.blocks)]) + "\n"

    def html(self) -> str:
        """Returns one HTML page, pictures and style inside, for light and dark screens."""
        import jinja2

        source = resources.files("affetto").joinpath("page.html").read_text(encoding="utf-8")
        environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        return environment.from_string(source).render(page=self) + "\n"

    def write(self, folder: Path) -> None:
        """Writes ``report.md``, ``report.html`` and the pictures into a folder."""
        for block in self.blocks:
            if isinstance(block, Picture):
                with atomic_write(folder / block.name) as temporary:
                    temporary.write_bytes(block.png)
        write_text(folder / "report.md", self.markdown())
        write_text(folder / "report.html", self.html())


def percent(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """Writes a fraction as percent with one decimal, and its interval in brackets: ``65.5 [63.9, 67.1]``."""
    return _figure([None if each is None else f"{100 * each:.1f}" for each in (value, low, high)])


def points(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """Writes a difference of fractions in percentage points with its sign: ``+3.1 [+1.2, +5.0]``."""
    return _figure([None if each is None else f"{100 * each:+.1f}" for each in (value, low, high)], MINUS)


def decimal(
    value: float | None, low: float | None = None, high: float | None = None, *, sign: bool = False
) -> str:
    """Writes a number with two decimals, and its interval in brackets: ``0.38 [0.36, 0.40]``.

    ``sign`` writes a plus too, as for a difference.
    """
    form = "+.2f" if sign else ".2f"
    ends = [None if each is None else format(round(each, 2) + 0.0, form) for each in (value, low, high)]
    return _figure(ends, MINUS)


def _figure(written: Sequence[str | None], minus: str = "-") -> str:
    """Joins a number and the ends of its interval; nothing where the number is None or NaN."""
    value, low, high = (None if each is None else each.replace("-", minus) for each in written)
    if value is None or "nan" in value:
        return ""
    if low is None or high is None or "nan" in low + high:
        return value
    return f"{value} [{low}, {high}]"


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"## {_plain(block.text)}"
    if isinstance(block, Text):
        return f"> **{_plain(block.text)}**" if block.alarm else _plain(block.text)
    if isinstance(block, Picture):
        return f"![{_plain(block.alt)}]({block.name})"
    return block.markdown()


def _plain(text: str, signs: str = "\\*`[]") -> str:
    """Puts text on one line; escapes signs, and what is HTML, which ``<`` before a space is not."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("&lt; ", "< ")
    for sign in signs:
        text = text.replace(sign, "\\" + sign)
    return text


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_plain(str(cell), "|") for cell in cells) + " |"
