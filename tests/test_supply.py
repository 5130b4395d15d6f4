"""What affetto takes from others: no code from files, and the versions of packages that it is tested with."""

import ast
import re

import yaml

from helpers import ROOT, script, trees

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


def test_the_tested_versions_are_those_that_are_allowed() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all(
        re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in lines if not line.startswith("#")
    )
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    tool = script("tools/constraints.py")
    for each in tool.direct():
        version = tested.get(tool.canonicalize_name(each.name))
        assert version, f"constraints.txt lacks {each.name}; write it again with tools/constraints.py"
        assert version in each.specifier, f"{each} does not allow {version}, the tested version"


def test_the_lowest_versions_are_bounds_of_the_project() -> None:
    lowest = script("tools/constraints.py").lowest()
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f"torch>={lowest['torch']}" in project
    assert f"torch>={lowest['torch']}" in (ROOT / "tools" / "install-torch").read_text(encoding="utf-8")


def test_workflows_call_what_there_is() -> None:
    for file in (ROOT / ".github" / "workflows").iterdir():
        jobs = yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"]
        runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
        for command in runs:
            words = command.split()
            if words[0] == "make":
                assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
            assert all((ROOT / word).exists() for word in words if word.startswith("tools/"))
    commands = [
        line for line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines() if "make" in line
    ]
    assert [
        line for line in commands if line not in (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    ] == []
