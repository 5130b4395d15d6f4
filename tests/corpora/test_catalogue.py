from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from affetto.cli import app
from affetto.corpora import CORPORA, scan
from affetto.corpora.catalogue import CATALOGUE
from affetto.corpora.labels import EMOTIONS
from affetto.errors import ManifestError


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_corpus_is_described_and_scanned_by_its_own_file(name: str) -> None:
    about = CATALOGUE[name]
    assert name == import_module(f"affetto.corpora.{name.replace('-', '_')}").NAME
    assert all(about._replace(classes="-"))
    assert about.classes.split() == sorted(set(about.classes.split()) & set(EMOTIONS))


@pytest.mark.parametrize("name", CATALOGUE)
def test_another_layout_is_told_from_the_expected_one(name: str, tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    with pytest.raises(ManifestError) as refusal:
        scan(name, tmp_path)
    assert all(line.strip() in str(refusal.value) for line in CATALOGUE[name].layout.splitlines())
    assert "found there: holiday/" in str(refusal.value)


def test_the_list_names_all_and_one_can_be_asked_for() -> None:
    everything = CliRunner().invoke(app, ["corpora"])
    assert everything.exit_code == 0
    assert all(f"{name}  " in everything.output for name in CORPORA)
    one = CliRunner().invoke(app, ["corpora", "emodb"])
    assert "German" in one.output
    assert "wav/03a01Fa.wav" in one.output
    assert "ravdess" not in one.output
    assert "did you mean" in str(CliRunner().invoke(app, ["corpora", "emo-db"]).exception)


def test_the_page_about_corpora_names_all_with_their_size() -> None:
    page = (Path(__file__).parents[2] / "docs" / "corpora.md").read_text(encoding="utf-8")
    assert all(
        f"| `{name}` | {about.title} | {about.language} | {about.size} |" in page
        for name, about in CATALOGUE.items()
    )
