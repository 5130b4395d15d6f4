"""A corpus is one file, from which the list, the page, the errors and ``affetto scan`` follow."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from affetto import corpora
from affetto.cli import app
from affetto.corpora import known_corpora, scan
from affetto.corpora.labels import EMOTIONS
from affetto.corpora.manifest import Manifest
from affetto.errors import ManifestError

KNOWN = {name: corpus.about for name, corpus in known_corpora().items()}
RELEASED = {name: about for name, about in KNOWN.items() if name not in ("table", "toy")}
PAGE = Path(__file__).parents[2] / "docs" / "corpora.md"

MODULE = """
from affetto.corpora.scanning import About, collect

ABOUT = About("whispers", "Whispers, of nobody", "none", "1 utterance", "anger", "CC0 1.0", "here", "a.wav")


def scan(root):
    return collect(root, ABOUT, lambda path: {"emotion": "anger", "speaker": path.stem})
"""

YAML = r"""
title: Murmurs, of nobody
language: none
size: 1 utterance
classes: anger
licence: CC0 1.0
obtain: here
layout: 1-A.wav
file: (?P<speaker>\d)-(?P<emotion>[A-Z])
misnamed: is not named SPEAKER-EMOTION
columns: {speaker: "{speaker}", emotion: {of: emotion, codes: {A: anger}}}
"""


@pytest.mark.parametrize("name", RELEASED)
def test_every_corpus_has_its_facts(name: str) -> None:
    about = RELEASED[name]
    assert all(about._replace(classes="-"))
    assert about.classes.split() == sorted(set(about.classes.split()) & set(EMOTIONS))


@pytest.mark.parametrize("name", RELEASED)
def test_another_layout_is_told_from_the_expected_one(name: str, tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    with pytest.raises(ManifestError) as refusal:
        scan(name, tmp_path)
    assert all(line.strip() in str(refusal.value) for line in RELEASED[name].layout.splitlines())
    assert "found there: holiday/" in str(refusal.value)


def test_the_list_names_all_and_one_can_be_asked_for() -> None:
    everything = CliRunner().invoke(app, ["corpora"])
    assert everything.exit_code == 0
    assert all(f"{name}  " in everything.output for name in KNOWN)
    one = CliRunner().invoke(app, ["corpora", "emodb"])
    assert "German" in one.output
    assert "wav/03a01Fa.wav" in one.output
    assert "ravdess" not in one.output
    assert "did you mean" in str(CliRunner().invoke(app, ["corpora", "emo-db"]).exception)


def test_labelled_corpora_come_first_and_what_is_no_release_last() -> None:
    names = list(KNOWN)
    assert names[-5:] == ["librispeech", "voxceleb1", "voxceleb2", "toy", "table"]
    assert names[:-5] == sorted(names[:-5])
    assert len(names) == 21


def test_the_table_of_the_page_is_that_of_the_files() -> None:
    rows = ["| name | what | language | size | emotions |", "|---|---|---|---|---:|"]
    for about in KNOWN.values():
        cells = [about.title, about.language, about.size, len(about.classes.split()) or ""]
        rows.append(f"| `{about.name}` | " + " | ".join(map(str, cells)) + " |")
    page = PAGE.read_text(encoding="utf-8").splitlines()
    first = page.index(rows[0])
    assert page[first : page.index("", first)] == rows


@pytest.fixture
def dropped_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two corpora in files of their own, one a module and one a YAML file, in a folder of the package."""
    folder = tmp_path / "package"
    (folder / "coded").mkdir(parents=True)
    (folder / "whispers.py").write_text(MODULE)
    (folder / "coded" / "murmurs.yaml").write_text(YAML)
    monkeypatch.setattr(corpora, "__path__", [*corpora.__path__, str(folder)])
    known_corpora.cache_clear()
    yield
    known_corpora.cache_clear()


@pytest.mark.usefixtures("dropped_in")
@pytest.mark.parametrize(("name", "file"), [("whispers", "a.wav"), ("murmurs", "1-A.wav")])
def test_a_corpus_is_one_file(name: str, file: str, tmp_path: Path, record: Callable[..., Path]) -> None:
    record(tmp_path / "audio" / file)
    manifest, audio = tmp_path / "m.csv", str(tmp_path / "audio")
    result = CliRunner().invoke(app, ["scan", name, audio, "-o", str(manifest)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert (Manifest.read(manifest).labels, Manifest.read(manifest).corpora) == (["anger"], [name])
    assert f"{name}  {name.capitalize()}, of nobody" in CliRunner().invoke(app, ["corpora"]).output
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match=rf"expected in .*\n  {file}\nfound there: nothing"):
        scan(name, tmp_path / "empty")
    with pytest.raises(ManifestError, match=f"did you mean '{name}'"):
        scan(f"{name}x", tmp_path)
