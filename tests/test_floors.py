"""Nobody climbs: a file imports from lower floors only, rooms on one floor are strangers."""

import ast
from collections.abc import Iterator
from pathlib import Path

import affetto

SOURCE = Path(affetto.__file__).parent

FLOORS = {
    "errors": 0,
    "config": 0,
    "runs": 0,
    "progress": 0,
    "workers": 0,
    "audio": 1,
    "features": 1,
    "augment": 1,
    "masking": 1,
    "plots": 1,
    "corpora": 2,
    "protocols": 2,
    "data": 3,
    "models": 3,
    "annotate": 4,
    "objectives": 4,
    "training": 4,
    "evaluation": 4,
    "recipes": 5,
    "inference": 5,
    "cli": 6,
    "serve": 6,
    "hear": 6,
    "__main__": 6,
}
# Rooms whose files are one thing in several parts; in the others siblings know only the contract.
OPEN_INSIDE = {"features", "data", "evaluation", "recipes", "inference", "cli", "serve"}
CONTRACTS = {
    "plots": {"style"},
    "corpora": {"manifest", "scanning", "catalogue", "labels", "tabular", "checks", "vectors", "voxceleb"},
    "protocols": {"pieces", "protocol", "rules"},
    "models": {"encoder", "context", "pooling", "heads", "enrolment", "hub", "text"},
    "objectives": {"objective"},
    "annotate": {"kmeans", "spaces"},
}
# What puts a room's parts together, and so knows them.
ASSEMBLIES = {("models", "embedders"), ("models", "classifier"), ("models", "checkpoint")}
# The ground is three steps, a protocol is a statement about a manifest, and whoever embeds reads the folders
# that pretrain wrote.
NEIGHBOURS = {
    ("config", "errors"),
    ("runs", "errors"),
    ("runs", "config"),
    ("protocols", "corpora.labels"),
    ("protocols", "corpora.manifest"),
    ("inference", "recipes.pretrained"),
}
HEAVY = {"torch", "pandas", "scipy", "sklearn", "matplotlib", "accelerate", "safetensors"}


def imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yields (module, name) of every import, wherever in the file it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from ((node.module or "", alias.name) for alias in node.names)


def at_import(tree: ast.Module) -> ast.Module:
    """Returns what runs when the file is imported: no bodies of functions, nothing for the type checker."""

    class Outside(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.If | None:
            return None if ast.unparse(node.test) == "TYPE_CHECKING" else node

    return Outside().visit(tree)  # type: ignore[no-any-return]


def ours(tree: ast.AST) -> Iterator[str]:
    """Yields every module of ours that is imported, without the leading ``affetto.``."""
    for module, name in imports(tree):
        if module == "affetto":
            if name != "__version__":
                yield name
        elif module.startswith("affetto."):
            inner = module.removeprefix("affetto.")
            package = SOURCE.joinpath(*inner.split("."))
            # ``from affetto.cli import manifest`` names a file, ``from affetto.data import Batch`` does not.
            yield f"{inner}.{name}" if (package / f"{name}.py").exists() else inner


def climbs(room: str, file: str, target: str) -> bool:
    """Whether a file of a room must not import the target."""
    other, _, inside = target.partition(".")
    if FLOORS[other] < FLOORS[room]:
        return False
    if other == room:
        contract = {"", *CONTRACTS.get(room, ())}
        return not (
            room in OPEN_INSIDE
            or inside.partition(".")[0] in contract
            or ((room, file) in ASSEMBLIES)
            or file == "__init__"
        )
    if FLOORS[other] == FLOORS[room]:
        return (room, target) not in NEIGHBOURS and room != "__main__"
    return True


def files() -> list[tuple[Path, str]]:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room != "__init__":
            found.append((path, room))
    return found


def test_every_room_has_a_floor() -> None:
    assert {room for _, room in files()} <= set(FLOORS)


def test_nobody_climbs() -> None:
    climbers = [
        f"{path.relative_to(SOURCE)} imports {target}"
        for path, room in files()
        for target in ours(ast.parse(path.read_text(encoding="utf-8")))
        if climbs(room, path.stem, target)
    ]
    assert climbers == []


def test_a_climber_would_be_found() -> None:
    def found(room: str, file: str, line: str) -> bool:
        return any(climbs(room, file, target) for target in ours(ast.parse(line)))

    assert found("data", "loader", "from affetto.models.encoder import Encoder")
    assert found("models", "cnn", "from affetto.models.ge2e import Ge2e")
    assert found("models", "cnn", "def late():\n    from affetto.training import fit")
    assert found("corpora", "toy", "from affetto.corpora.table import scan")
    assert found("errors", "errors", "import affetto.runs")
    assert found("evaluation", "report", "from affetto import training")
    assert found("recipes", "evaluate", "from affetto.inference import Recogniser")
    assert not found("models", "embedders", "from affetto.models.ge2e import Ge2e")
    assert not found("models", "cnn", "from affetto.models.context import Context")
    assert not found("recipes", "card", "from affetto import __version__")


def test_torch_stays_off_the_ground_the_tables_and_the_scores() -> None:
    guilty = [
        f"{path.relative_to(SOURCE)} imports {module}"
        for path, room in files()
        if FLOORS[room] in (0, 2) or room in ("evaluation", "plots")
        for module, _ in imports(ast.parse(path.read_text(encoding="utf-8")))
        if module.partition(".")[0] in ("torch", "accelerate", "safetensors")
    ]
    assert guilty == []


def test_the_command_line_imports_nothing_heavy_at_its_door() -> None:
    guilty = [
        f"{path.relative_to(SOURCE)} imports {module}"
        for path, room in files()
        if room in ("cli", "__main__")
        for module, _ in imports(at_import(ast.parse(path.read_text(encoding="utf-8"))))
        if module.partition(".")[0] in HEAVY
        or (module.startswith("affetto.") and module.split(".")[1] not in ("cli", "errors"))
    ]
    assert guilty == []
