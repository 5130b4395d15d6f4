"""Writes docs/map.md: every file of the package, floor by floor, with the first sentence of its docstring.

    python tools/file_map.py

The floors are those of docs/architecture.md. A test compares the page with what this script would write.
"""

import ast
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "affetto"
HEAD = """# File map

Every file of `src/affetto`, floor by floor as in [architecture](architecture.md). Each line is the first
sentence of the file itself; `python tools/file_map.py` writes this page.
"""


def rooms() -> list[tuple[int, str, list[str]]]:
    """Returns floor, room and files of each row of the table in docs/architecture.md."""
    found = []
    for line in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 5 and cells[0].isdigit():
            found.append((int(cells[0]), cells[1].strip("`"), cells[3].strip("`").replace("<", " ").split()))
    return found


def sentence(path: Path) -> str:
    """Returns the first sentence about a file: of its docstring, or the description in a YAML file."""
    if path.suffix in (".yaml", ".json"):  # JSON is YAML too
        facts = yaml.safe_load(path.read_text(encoding="utf-8"))
        facts = facts.get("info", facts)  # of an interface as OpenAPI
        return str(facts.get("summary") or facts.get("description") or facts["title"])
    text = " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split())
    first = re.match(r".*?(?<!\bal)[.](?=\s|$)", text)
    plain = (first[0] if first else text).removesuffix(".").replace("``", "`")
    return re.sub(r":\w+:`~?([^`]*)`", r"`\1`", plain)


def page() -> str:
    """Returns the whole page."""
    lines, floor = [HEAD.rstrip()], -1
    for number, room, order in rooms():
        if number != floor:
            lines += ["", f"## Floor {number}"]
            floor = number
        folder = SOURCE / room if room.endswith("/") else SOURCE
        if room.endswith("/"):
            lines += ["", f"**`{room}`** {sentence(folder / '__init__.py')}.", ""]
            paths = [path for path in folder.rglob("*") if path.suffix in (".py", ".yaml", ".json")]
        else:
            lines += ["", f"**{room}**", ""]
            paths = [folder / f"{name}.py" for name in order]
        steps = {name: step for step, name in enumerate(order)}
        paths.sort(key=lambda path: (path.suffix, steps.get(path.stem, len(steps)), path.as_posix()))
        lines += [
            f"- `{path.relative_to(folder).as_posix()}`: {sentence(path)}."
            for path in paths
            if path.exists() and not (room.endswith("/") and path.name == "__init__.py")
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "map.md").write_text(page(), encoding="utf-8")
