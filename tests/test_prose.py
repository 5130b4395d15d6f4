"""Plain words, short sentences: in docstrings, comments, help texts, docs and README."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import affetto

SOURCE = Path(affetto.__file__).parent
ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]
NOTES = [*(ROOT / "experiments" / "notes").glob("*.md"), ROOT / "experiments" / "README.md"]
BANNED = re.compile(
    r"\b(told|tells|foretold|heard|hears|dealt|deals|beside|anew|said|whoever|whichever|mates|lies|nobody|anybody)\b",
    re.IGNORECASE,
)
LONGEST_MEAN = 20  # words of a sentence
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def prose(path: Path) -> str:
    """Returns the running text of a page, without blocks, code and the addresses of links."""
    text = re.sub(r"<!--.*?-->", "", BLOCK.sub("", path.read_text(encoding="utf-8")))
    return re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "x", text))


def sentences(text: str) -> Iterator[str]:
    """Yields the sentences of running text; tables and headings are none."""
    for part in re.split(r"\n\s*\n|\n(?=\s*[-*] |\s*\d+\. |#)", text):
        if part.strip() and part.strip()[0] not in "|#!":
            yield from (each for each in re.split(r"(?<=[.?!])\s+", " ".join(part.split())) if each)


def words_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yields line and text of docstrings, comments and help texts; error messages are not among them."""
    code = path.read_text(encoding="utf-8")
    for number, line in enumerate(code.splitlines(), 1):
        if comment := re.search(r"(^|  )#(.*)", line):
            yield number, comment[2]
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.lineno, str(node.value.value)
        elif isinstance(node, ast.Call) and path.parent.name == "cli":
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in ("option", "Option", "Argument", "Typer"):
                texts = [*node.args, *(keyword.value for keyword in node.keywords)]
                constants = (
                    each for text in texts for each in ast.walk(text) if isinstance(each, ast.Constant)
                )
                yield from ((node.lineno, str(each.value)) for each in constants)


@pytest.mark.parametrize(
    "room", sorted({path.parent for path in SOURCE.rglob("*.py")}), ids=lambda room: room.name
)
def test_docstrings_comments_and_help_are_plain(room: Path) -> None:
    found = [
        f"{path.name}:{line}: {match[0]}"
        for path in sorted(room.glob("*.py"))
        for line, text in words_of(path)
        for match in BANNED.finditer(re.sub(r"``[^`]*``", "", text))
    ]
    assert found == []


@pytest.mark.parametrize("page", [*PAGES, *NOTES], ids=lambda page: page.name)
def test_pages_are_plain(page: Path) -> None:
    assert BANNED.findall(prose(page)) == []
    lengths = [len(re.findall(r"[^\W\d][\w'’-]*", each)) for each in sentences(prose(page))]
    assert sum(lengths) <= LONGEST_MEAN * len(lengths)
