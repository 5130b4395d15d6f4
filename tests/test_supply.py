"""What affetto takes from others: no code from files, and the versions of packages that it is tested with."""

import ast

from helpers import trees

# Modules that run what a file says, and calls that do so unless they are told not to.
RUNS_FILES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
ONLY_WITH = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
NEVER = {"eval", "exec", "compile", "pd.read_pickle", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}


def dangers(tree: ast.AST) -> list[str]:
    """Returns what in a file could run code from a file that it reads."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names if each.name.partition(".")[0] in RUNS_FILES]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] if node.module and node.module.partition(".")[0] in RUNS_FILES else []
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {each.arg: ast.unparse(each.value) for each in node.keywords}
            argument, safe = ONLY_WITH.get(name, ("", None))
            bad = name in NEVER or (argument and given.get(argument) != str(safe))
            bad = bad or given.get("trust_remote_code", "False") != "False"
            bad = bad or given.get("allow_pickle", "False") != "False"
            found += [name] if bad or given.get("weights_only", "True") != "True" else []
    return found


def test_nothing_loads_a_pickle() -> None:
    assert {file: found for file, tree in trees().items() if (found := dangers(tree))} == {}


def test_what_loads_a_pickle_would_be_found() -> None:
    lines = [
        *(
            "import pickle",
            "from joblib import load",
            "torch.load(path)",
            "torch.load(path, weights_only=False)",
        ),
        *("np.load(path)", "np.save(path, array, allow_pickle=True)", "yaml.load(text)", "eval(text)"),
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
    ]
    assert [line for line in lines if not dangers(ast.parse(line))] == []
    assert dangers(ast.parse("torch.load(path, weights_only=True); network.eval(); import json")) == []
