"""The front door is nine names; neither it nor the help of the command line loads anything heavy."""

import json
import os
import subprocess
import sys

import pytest

import affetto

HEAVY = ["torch", "pandas", "scipy", "sklearn", "matplotlib", "transformers", "accelerate", "numpy"]


def test_the_front_door_is_pinned() -> None:
    assert affetto.__all__ == [
        "AffettoError",
        "Manifest",
        "Recogniser",
        "evaluate",
        "finetune",
        "finetune_settings",
        "list_protocols",
        "load_protocol",
        "scan",
    ]
    assert dir(affetto) == sorted([*affetto.__all__, "__version__"])


@pytest.mark.parametrize("name", affetto.__all__)
def test_every_name_leads_somewhere(name: str) -> None:
    thing = getattr(affetto, name)
    assert thing.__name__ == name
    assert thing.__doc__
    assert thing.__module__.startswith("affetto.")


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'recognizer'"):
        _ = affetto.recognizer


@pytest.mark.parametrize("code", ["import affetto", "import affetto.__main__, affetto.cli"])
def test_importing_loads_nothing_heavy(code: str) -> None:
    assert _loaded(code) == []


@pytest.mark.parametrize("arguments", [["--help"], ["finetune", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["affetto", *{arguments!r}]
from affetto.__main__ import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""
    assert _loaded(code) == []


def test_the_module_runs_as_a_command() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "affetto", "--help"], capture_output=True, text=True, check=True, env=_env()
    )
    for verb in ("scan", "manifest", "protocols", "finetune", "evaluate", "predict"):
        assert f"\n  {verb} " in ran.stdout


def _env() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}


def _loaded(code: str) -> list[str]:
    code += f"\nimport json, sys\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_env())
    return json.loads(ran.stdout.splitlines()[-1])  # type: ignore[no-any-return]
