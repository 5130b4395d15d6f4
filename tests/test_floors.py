"""Floors, budgets and names, as ``docs/architecture.md`` states them: the one page that these tests read."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import affetto

SOURCE = Path(affetto.__file__).parent
PAGE = Path(__file__).resolve().parents[1] / "docs" / "architecture.md"
HEAVY = {"torch", "pandas", "scipy", "sklearn", "matplotlib", "accelerate", "safetensors", "jinja2"}
LIGHT = (
    "affetto.cli",
    "affetto.errors",
    "affetto._version",
    "affetto.models.registry",
    "affetto.objectives.tasks",
)
LONGEST_FUNCTION, LONGEST_FILE = 60, 300
LARGEST_SHARE = 0.16


class Room(NamedTuple):
    """A row of the page: a folder, or some files beside ``__init__.py`` (``folder`` is False)."""

    name: str
    floor: int
    budget: int
    order: dict[str, int]
    folder: bool


def rooms() -> dict[str, Room]:
    """Reads the table: floor, room, budget, files in their order (``a b < c``: c may import a and b)."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 5 and cells[0].isdigit():
            name = cells[1].strip("`/")
            groups = [group.split() for group in cells[3].strip("`").split("<")]
            order = {file: step for step, group in enumerate(groups) for file in group}
            found[name] = Room(
                name, int(cells[0]), int(cells[2].replace(",", "")), order, cells[1].endswith("/`")
            )
    return found


ROOMS = rooms()
LOOSE = {file: room.name for room in ROOMS.values() if not room.folder for file in room.order}


def place(module: str) -> tuple[str, str]:
    """Returns room and file of a module given without ``affetto.``; ``models`` is its ``__init__``."""
    head, _, tail = module.partition(".")
    if head in LOOSE:
        return LOOSE[head], head
    return head, tail or "__init__"


def sources() -> list[tuple[Path, str, str]]:
    """Returns (path, room, file) of every source file."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        found.append((path, *place(module.removesuffix(".__init__"))))
    return found


def imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yields (module, name) of every import, in functions and for the type checker too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from ((node.module or "", alias.name) for alias in node.names)


def ours(tree: ast.AST) -> Iterator[str]:
    """Yields every module of ours that is imported, without the leading ``affetto.``."""
    for module, name in imports(tree):
        if module != "affetto" and not module.startswith("affetto."):
            continue
        inner = module.removeprefix("affetto").lstrip(".")
        named = SOURCE.joinpath(*inner.split("."), name) if inner else SOURCE / name
        if named.with_suffix(".py").exists() or named.is_dir():
            yield f"{inner}.{name}" if inner else name
        else:
            yield inner or "__init__"


def climbs(room: str, file: str, target: str) -> bool:
    """Whether a file must not import the target."""
    other, inside = place(target)
    if other != room:
        return ROOMS[other].floor >= ROOMS[room].floor
    if file == "__init__" and ROOMS[room].folder:
        return False
    order = ROOMS[room].order
    return inside == "__init__" or order.get(inside, 99) >= order.get(file, 99)


def test_every_file_has_its_place() -> None:
    """Every file stands in the table, and every file of the table is there."""
    there: dict[str, set[str]] = defaultdict(set)
    for _, room, file in sources():
        there[room].add(file)
    assert set(there) == set(ROOMS)
    listed = {
        name: set(room.order) | ({"__init__"} if room.folder else set()) for name, room in ROOMS.items()
    }
    # A room's door may be listed or not: it comes last in any case.
    assert {name: files ^ listed[name] for name, files in there.items() if files ^ listed[name]} == {}


def test_nobody_climbs() -> None:
    climbers = [
        f"{path.relative_to(SOURCE)} imports {target}"
        for path, room, file in sources()
        for target in ours(ast.parse(path.read_text(encoding="utf-8")))
        if climbs(room, file, target)
    ]
    assert climbers == []


def test_a_climber_would_be_found() -> None:
    def found(room: str, file: str, line: str) -> bool:
        return any(climbs(room, file, target) for target in ours(ast.parse(line)))

    assert found("data", "loader", "from affetto.models.encoder import Encoder")
    assert found("models", "logmel", "from affetto.models.ge2e import Ge2e")
    assert found("models", "logmel", "def late():\n    from affetto.training import fit")
    assert found("evaluation", "report", "from affetto import training")
    assert found("finetuning", "run", "from affetto.pretraining.run import pretrain")
    assert found("models", "logmel", "from affetto import models")
    assert not found("models", "logmel", "from affetto.models.layers import Context")


def test_torch_stays_off_the_ground_the_tables_and_the_scores() -> None:
    guilty = [
        f"{path.relative_to(SOURCE)} imports {module}"
        for path, room, _ in sources()
        if room in ("ground", "corpora", "protocols", "evaluation", "plots")
        for module, _ in imports(ast.parse(path.read_text(encoding="utf-8")))
        if module.partition(".")[0] in ("torch", "accelerate", "safetensors")
    ]
    assert guilty == []


def at_import(tree: ast.Module) -> ast.Module:
    """Returns what runs when the file is imported: no bodies of functions, nothing for the type checker."""

    class Outside(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.If | None:
            return None if ast.unparse(node.test) == "TYPE_CHECKING" else node

    return Outside().visit(tree)  # type: ignore[no-any-return]


def test_the_command_line_imports_nothing_heavy_at_its_door() -> None:
    guilty = [
        f"{path.relative_to(SOURCE)} imports {module}"
        for path, room, file in sources()
        if room == "cli" or (file in ("__main__", "__init__") and path.parent == SOURCE)
        for module, _ in imports(at_import(ast.parse(path.read_text(encoding="utf-8"))))
        if module.partition(".")[0] in HEAVY
        or (module.startswith("affetto.") and not module.startswith(LIGHT))
    ]
    assert guilty == []


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def totals() -> tuple[int, int]:
    """Returns the most lines and files of the package that the page allows."""
    found = re.search(r"at most ([\d,]+) lines in (\d+) files", PAGE.read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1].replace(",", "")), int(found[2])


def test_every_room_keeps_its_budget() -> None:
    spent: dict[str, int] = defaultdict(int)
    for path, room, _ in sources():
        spent[room] += lines_of(path)
    over = {name: (lines, ROOMS[name].budget) for name, lines in spent.items() if lines > ROOMS[name].budget}
    assert over == {}
    most_lines, most_files = totals()
    assert sum(spent.values()) <= most_lines
    assert max(spent.values()) <= LARGEST_SHARE * sum(spent.values())
    assert len(sources()) <= most_files


def test_the_budgets_add_up() -> None:
    assert sum(room.budget for room in ROOMS.values()) <= totals()[0]


def test_files_and_functions_stay_short() -> None:
    long_files = [str(path.relative_to(SOURCE)) for path, *_ in sources() if lines_of(path) > LONGEST_FILE]
    assert long_files == []
    long_functions = [
        f"{path.relative_to(SOURCE)}:{node.name} {node.end_lineno - node.lineno + 1}"
        for path, *_ in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert long_functions == []


def contracts() -> set[str]:
    """Returns the names that the page says several files define, each time with one meaning."""
    text = PAGE.read_text(encoding="utf-8")
    listed = re.search(
        r"^Names that several files define[^:]*:(.*?)(?:\n\n|\Z)", text, re.DOTALL | re.MULTILINE
    )
    assert listed is not None
    return set(re.findall(r"`(\w+)`", listed[1]))


def test_a_public_name_means_one_thing() -> None:
    where: dict[str, list[str]] = defaultdict(list)
    for path, room, _ in sources():
        if room == "cli":  # a command bears the name of the function that it calls
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].append(str(path.relative_to(SOURCE)))
    twice = {name: files for name, files in where.items() if len(files) > 1 and name not in contracts()}
    assert twice == {}


def test_a_name_of_the_contracts_is_defined_twice() -> None:
    """The list of exceptions must not outlive what it excuses."""
    defined: dict[str, int] = defaultdict(int)
    for path, *_ in sources():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined[node.name] += 1
    assert [name for name in sorted(contracts()) if defined[name] < 2] == []


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_has_a_sentence(room: str) -> None:
    row = next(line for line in PAGE.read_text(encoding="utf-8").splitlines() if f"| `{room}" in line)
    assert len(row.strip().strip("|").split("|")[4].split()) >= 3
