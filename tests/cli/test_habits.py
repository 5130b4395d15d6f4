"""What every verb does alike: a help with an example, completion, and a pipe that is closed early."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from affetto.cli import EXAMPLES, app
from affetto.corpora.manifest import Manifest
from helpers import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NEEDS = {"pretrain": " encoder.width=16 encoder.blocks=1 train.epochs=2"}  # the docs run it in seconds
# What the docs run with other files or options, or do not run: it needs a server, an account, minutes.
ELSEWHERE = {"serve", "push", "demo", "manifest validate", "manifest relabel", "export onnx", "search"}


def helped(words: list[str]) -> str:
    result = CliRunner().invoke(app, [*words, "--help"], terminal_width=200)
    assert result.exit_code == 0, result.output
    return result.output


def verbs() -> list[str]:
    listed = re.compile(r"^  ([a-z]+)  ", re.MULTILINE)
    found = []
    for name in listed.findall(helped([]).partition("Commands:")[2]):
        inner = listed.findall(helped([name]).partition("Commands:")[2])
        found += [f"{name} {each}" for each in inner] or [name]
    return found


def test_every_verb_has_an_example() -> None:
    assert sorted(verbs()) == sorted(EXAMPLES)


@pytest.mark.parametrize("verb", EXAMPLES)
def test_the_help_opens_with_an_example_that_the_docs_run(verb: str) -> None:
    example = EXAMPLES[verb]
    shown = helped(verb.split())
    usage, first = [part.strip() for part in shown.split("\n\n")[:2]]
    assert usage.startswith("Usage:")
    assert first == f"Example: {example}"
    words = shlex.split(example)
    assert words[: 1 + len(verb.split())] == ["affetto", *verb.split()]
    for option in (word for word in words if re.fullmatch(r"--?[a-z-]+", word)):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", shown), option
    if verb not in ELSEWHERE:
        pages = [page.read_text(encoding="utf-8") for page in PAGES]
        line = example + NEEDS.get(verb, "")
        assert any(re.search(rf"^(\$ )?{re.escape(line)}( |$)", page, re.MULTILINE) for page in pages), line


def test_completion_knows_the_verbs() -> None:
    asked = {"_AFFETTO_COMPLETE": "complete_bash", "COMP_WORDS": "affetto pre", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "affetto"], env=os.environ | asked, capture_output=True, text=True
    )
    assert done.stdout.split() == ["pretrain", "predict"]
    assert "--install-completion" in helped([])


@pytest.mark.parametrize("line", ["predict {folder} --any-sound -o -", "manifest describe {table}"])
def test_a_closed_pipe_ends_quietly(line: str, corpus: Manifest, listed: Path) -> None:
    words = line.format(folder=corpus.paths[0].parent, table=listed).split()
    read, write = os.pipe()
    os.close(read)  # as head does after its last line
    try:
        done = subprocess.run(
            [sys.executable, "-m", "affetto", *words], stdout=write, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(write)
    assert done.returncode == 141
    assert not re.search("error|Traceback|pipe", done.stderr, re.IGNORECASE), done.stderr


STOPPED = """
import os, signal, sys, time
from affetto.__main__ import main
from affetto.inference import embedding

def stop(*_):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(20)
    finally:
        if TWICE:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(20)

embedding.vectors_of_clips = stop
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs this in the background
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
@pytest.mark.parametrize("twice", [False, True])
def test_ctrl_c_says_how_to_go_on_and_a_second_one_ends_at_once(
    corpus: Manifest, tmp_path: Path, twice: bool
) -> None:
    words = ["embed", str(corpus.path(0)), "-e", "functionals", "-o", "out.npy"]
    code = STOPPED.replace("TWICE", str(twice))
    ran = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    said = "stopped; what is done is kept in out.npy.part: the same command goes on from there\n"
    assert (ran.returncode, ran.stderr) == (130, "" if twice else said)
