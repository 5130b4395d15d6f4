"""Runs every block of README.md and docs/, and the examples, as they are written.

Above a block may stand a comment: ``<!-- file: NAME -->`` writes the block to that file instead of running
it, and ``<!-- not run: REASON -->`` leaves it; its commands must still exist. A command may end
in ``# exit code N``. In a console block the lines below a command must be in its output; ``...`` stands for
anything. Blocks marked ``text`` are pictures.
"""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

from affetto.cli import app
from affetto.corpora.manifest import Manifest
from affetto.errors import AffettoError
from affetto.finetuning import classical
from affetto.language import with_prompts, worded
from affetto.protocols.protocol import load_protocol
from affetto.serving.app import openapi
from helpers import script
from smallest import few_trials
from test_front_door import FRONT_DOOR, SECOND_RING
from text_models import save_tiny_text

ROOT = Path(__file__).resolve().parents[1]
DOOR = [*FRONT_DOOR, "hear"]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
RUN = ("python", "bash", "console")
SHELL = re.compile(r"[|<>]|&&")
GROUPS = [str(group.name) for group in app.registered_groups]
TOY = "affetto scan toy toy -o toy.csv --speakers 6 --takes 1"
MADE: dict[str, tuple[Path, int, str]] = {}  # a line: what it leaves, exit code, output
SHIM = f'#!/bin/sh\nexec "{sys.executable}" -m affetto "$@"\n'


class Block(NamedTuple):
    kind: str
    text: str
    file: str | None
    reason: str | None


def blocks(page: Path) -> Iterator[Block]:
    for found in BLOCK.finditer(page.read_text(encoding="utf-8")):
        mark = found["mark"] or ""
        file = mark.removeprefix("file: ") if mark.startswith("file: ") else None
        reason = mark.removeprefix("not run:").strip() if mark.startswith("not run:") else None
        yield Block(found["kind"], found["text"], file, reason)


class Command(NamedTuple):
    line: str
    exit_code: int
    output: list[str]


def commands(block: Block) -> list[Command]:
    found: list[Command] = []
    for line in block.text.splitlines():
        if block.kind == "console" and not line.startswith("$ "):
            found[-1].output.append(line)
            continue
        line, _, comment = line.removeprefix("$ ").partition(" # ")
        code = re.search(r"exit code (\d)", comment)
        if line.strip():
            found.append(Command(line.strip(), int(code[1]) if code else 0, []))
    return found


def run(line: str) -> tuple[int, str]:
    """Runs a line, or where it makes the toy corpus of most pages, copies what it made the first time."""
    if line not in MADE or Path("toy").exists():
        return run_now(line)
    made, code, output = MADE[line]
    shutil.copytree(made, ".", dirs_exist_ok=True)
    return code, output


def run_now(line: str) -> tuple[int, str]:
    """Runs a line: a plain affetto command in this process, which is faster, anything else in a shell."""
    words = shlex.split(line, comments=True)
    if words[:1] == ["affetto"] and not SHELL.search(re.sub(r"'[^']*'", "", line)):
        result = CliRunner().invoke(app, words[1:])
        if isinstance(result.exception, AffettoError):  # as __main__ words it
            return 2, f"{result.output}error: {result.exception}"
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def shows(output: str, expected: list[str]) -> bool:
    parts = [re.escape(part.strip()) for line in expected for part in line.split("...")]
    return re.search(".*".join(parts), output, re.DOTALL) is not None


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """The corpus with which most pages begin: its folder, and the exit code and the output of ``TOY``."""
    with chdir(folder := tmp_path_factory.mktemp("toy-of-docs")):
        return folder, *run_now(TOY)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: tuple[Path, int, str]) -> Iterator[Path]:
    """An empty folder to work in, from which a shell finds the command affetto."""
    shim = tmp_path / "bin" / "affetto"
    shim.parent.mkdir()
    shim.write_text(SHIM)
    shim.chmod(0o755)
    monkeypatch.setitem(MADE, TOY, toy)
    monkeypatch.setattr(classical, "LOGISTIC_STRENGTHS", classical.LOGISTIC_STRENGTHS[:1])  # for each layer
    monkeypatch.setenv("PATH", f"{shim.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    with few_trials():
        yield work


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_runs_as_written(page: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in blocks(page):
        if block.file is not None:
            (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.reason is not None:
            continue
        elif block.kind == "python":
            exec(compile(block.text, page.name, "exec"), names)
        elif block.kind in RUN:
            for command in commands(block):
                code, output = run(command.line)
                assert code == command.exit_code, f"{command.line}\n{output}"
                assert shows(output, command.output), f"{command.line}\n{output}"
        else:
            assert block.kind == "text", f"a block of {page.name} is neither run nor explained: {block.text}"
    capsys.readouterr()


@cache
def help_of(verb: tuple[str, ...]) -> str:
    result = CliRunner().invoke(app, [*verb, "--help"])
    assert result.exit_code == 0, f"there is no verb {' '.join(verb)}"
    return result.output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_block_that_is_not_run_says_why_and_names_what_exists(page: Path) -> None:
    for block in blocks(page):
        if block.reason is None:
            continue
        assert block.reason, f"a block of {page.name} does not say why it is not run"
        for command in commands(block):
            words = shlex.split(command.line)
            for word in words:
                assert not word.startswith("experiments/") or (ROOT / word).exists(), command.line
            if words[0] == "make":
                targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
                assert words[1] in targets, command.line
            elif words[0] == "pip":
                assert words[1] == "install", command.line
            elif words[0] == "docker":
                assert (ROOT / "Dockerfile").exists()
            elif words[0] == "curl":
                assert f"/v1/{words[-1].partition('/v1/')[2]}" in openapi()["paths"], command.line
            elif words[0] == "python":
                assert (ROOT / words[1]).exists(), command.line
            else:
                words = words[words.index("affetto") + 1 :]
                verb = tuple(words[: 2 if words[0] in GROUPS else 1])
                allowed = help_of(verb)
                for option in (word for word in words if re.fullmatch(r"--?[a-z-]+", word)):
                    assert re.search(rf"(?<![\w-]){option}(?![\w-])", allowed), command.line


def test_options_and_verbs_in_running_text_exist() -> None:
    every = " ".join(help_of(verb) for verb in _verbs())
    for page in PAGES:
        prose = BLOCK.sub("", page.read_text(encoding="utf-8"))
        for option in re.findall(r"`(--[a-z-]+)", prose):
            assert option in every, f"{page.name} names {option}"


def _verbs() -> list[tuple[str, ...]]:
    verbs = [(verb,) for verb in _listed(())]
    inner = [(group, verb) for group in GROUPS for verb in _listed((group,))]
    assert ("finetune",) in verbs
    assert ("manifest", "join") in inner
    return verbs + inner


def _listed(verb: tuple[str, ...]) -> list[str]:
    return re.findall(r"^  ([a-z]+)  ", help_of(verb).partition("Commands:")[2], re.MULTILINE)


def test_the_readme_names_every_verb() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for verb in _verbs():
        assert " ".join(verb) in text, f"README.md does not name affetto {' '.join(verb)}"


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, *(ROOT / "experiments").rglob("*.md"), ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links {target}"


def test_pages_import_what_is_pinned() -> None:
    """Blocks of Python import names of the front door and the second ring, of ours nothing else."""
    for page in PAGES:
        for block in (each for each in blocks(page) if each.kind == "python"):
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.Import):
                    ours = [alias.name for alias in node.names if alias.name.startswith("affetto.")]
                    assert ours == [], page.name
                elif isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "affetto":
                    allowed = SECOND_RING.get(str(node.module), []) if node.module != "affetto" else DOOR
                    assert {alias.name for alias in node.names} <= set(allowed), f"{page.name}: {node.module}"


def test_the_file_map_is_what_the_files_say() -> None:
    loaded = script("tools/file_map.py")
    assert (ROOT / "docs" / "map.md").read_text(encoding="utf-8") == loaded.page(), "python tools/file_map.py"


def test_the_examples_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(TOY)[0] == 0
    own, several = (script(f"examples/{name}.py") for name in ("own_corpus", "predict_folder"))
    own.main("toy", r"(?P<speaker>[fm]\d\d)_s\d\d_(?P<emotion>[a-z]+)_t", "runs/own")
    assert (folder / "runs" / "own" / "report" / "report.html").exists()
    shutil.rmtree(folder / "toy" / "f02")
    (folder / "toy" / "broken.wav").write_text("no sound")
    capsys.readouterr()
    several.main("runs/own/svm/recogniser", "toy")
    printed = capsys.readouterr().out
    assert "not read: toy/broken.wav: " in printed
    assert sum(int(number) for number in re.findall(r"^ *(\d+)  ", printed, re.MULTILINE)) == 100


def test_the_masks_of_an_utterance_are_drawn(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(TOY)[0] == 0
    for number, (source, name) in enumerate(
        [("loudness", "loudness"), ("voicing", "voicing"), ("loudness", "intensity")]
    ):
        before = f"{number - 1}/manifest.csv" if number else "toy.csv"
        assert run(f"affetto annotate intensity {before} --source {source} --name {name} -o {number}")[0] == 0
    manifest = Manifest.read(folder / "2" / "manifest.csv")
    capsys.readouterr()
    drawn = script("experiments/masks.py").draw(manifest, manifest.keys[3], folder / "drawn")
    assert drawn.stat().st_size > 10_000
    lines = capsys.readouterr().out.splitlines()
    hidden = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    assert len(hidden) == 4
    assert len(set(hidden.values())) == 1


def test_an_emotion_is_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(TOY)[0] == 0
    save_tiny_text(folder / "words")
    (folder / "toy-5.yaml").write_text(
        "name: toy-5\ndescription: one fold\ncorpus: toy\nlabels: [anger, neutral, sadness]\n"
        "label_source: intended labels\nunits: f01 f02 f03 m01 m02 m03\n"
        "folds:\n  - {test: [f03, m02], dev: m03}\ndev_rule: made up\n",
        encoding="utf-8",
    )
    asked = "left_out --manifest toy.csv --text words --protocol toy-5.yaml --encoder functionals --epochs 1"
    monkeypatch.setattr(sys, "argv", asked.split())
    loaded = script("experiments/left_out.py")
    loaded.main()
    rows = json.loads((folder / "experiments" / "toy-5-left-out-emo.json").read_text())
    assert [row["method"] for row in rows] == ["own words", "random words"]
    manifest, labels = Manifest.read("toy.csv"), ("anger", "neutral", "sadness")
    for row in rows:
        kind = row["method"].split()[0]
        made = folder / "runs/toy-5-left-out-emo" / kind / "anger"
        words = loaded.words_of(kind, labels)
        truth, _, answers, cosines = loaded.asked_for_all(manifest, load_protocol("toy-5.yaml"), made, words)
        recalls = [np.mean(answers[truth == place].argmax(1) == place) for place in range(3)]
        found = row["by_emotion"]["anger"]
        assert found["left_out"] == pytest.approx(recalls[0])
        assert found["seen"] == pytest.approx(np.mean(recalls[1:]))
        assert found["found"] == pytest.approx(average_precision_score(truth == 0, cosines[:, 0]))
        assert row["seen_low"] <= row["seen"] <= row["seen_high"]


def test_other_corpora_are_asked_and_searched(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is scored as its recogniser predicts and as a search ranks."""
    assert run(TOY)[0] == 0
    save_tiny_text(folder / "words")
    clap = "affetto pretrain --objective clap --text words --encoder functionals --manifest toy.csv"
    with few_trials():
        assert run(f"{clap} --protocol speaker-kfold -o runs/clap train.epochs=1")[0] == 0
    monkeypatch.setattr(sys, "argv", ["other_corpus", "--run", "runs/clap", "--manifest", "toy.csv"])
    loaded = script("experiments/other_corpus.py")
    loaded.main()
    [name] = (folder / "experiments").glob("*-other-corpora.json")
    rows = {row["measure"]: row for row in json.loads(name.read_text())["rows"]}
    manifest = Manifest.read("toy.csv")
    labels = sorted(set(manifest.table["emotion"]))
    prompts = {worded("the speaker sounds {emotion}", label): label for label in labels}
    asked = with_prompts("runs/clap/seed-0/fold-1/recogniser", list(prompts), any_sound=True)
    table = asked.predict(manifest)
    right = table["label"].map(prompts).to_numpy() == manifest.table["emotion"].to_numpy()
    expected = np.mean([right[(manifest.table["emotion"] == label).to_numpy()].mean() for label in labels])
    for measure in ("own classes", "known classes"):
        assert rows[measure]["sizes"]["0"]["value"][0] == pytest.approx(expected)
    assert rows["search by text"]["chance"] == pytest.approx(0.2)
    assert rows["search by text"]["sizes"]["all"]["value"][0] > 0.2
