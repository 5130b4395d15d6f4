"""Experiments with pretraining: ways, shares of the labels, what dev chooses, paired differences."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from affetto.cli.options import trainer
from affetto.config import build
from affetto.corpora.manifest import Manifest
from affetto.errors import ConfigError
from affetto.evaluation.run import read_meta
from affetto.experiment.results import Result, read_results
from affetto.experiment.run import Experiment, check, experiment
from affetto.finetuning import settings as methods
from affetto.models.embedders import build_encoder
from affetto.pretraining.settings import pretrain_settings
from text_models import save_tiny_text

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
PLAN = """
title: Toy
settings:
  protocol: {protocol}
  encoder: tdnn
  embedder: {{encoder: {{name: tdnn, width: 16, blocks: 1, bins: 20}}}}
  enrolment: false
  train: {{epochs: 1}}
pretraining:
  base: {{encoder: {{width: 16, blocks: 1, bins: 20}}, train: {{epochs: 1, batch_size: 16}}, per_speaker: 8}}
  sentences: {{groups: text}}
ways:
  probe: {{frozen: true}}
  fine-tuned: {{}}
label_fractions:
  0.5: {{fine-tuned: {{train: {{epochs: 2}}}}}}
rows:
  - {{method: none}}
  - {{method: again, settings: {{seeds: [1]}}}}
  - {{method: sentences, pretrained: sentences, against: [none, again]}}
"""


@pytest.fixture(scope="module")
def made(corpus: Manifest, protocol: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiment")
    (folder / "toy.yaml").write_text(PLAN.format(protocol=protocol), encoding="utf-8")
    experiment(folder / "toy.yaml", corpus, folder / "results", folder / "runs")
    return folder


def rows(made: Path) -> dict[str, Result]:
    return {row.method: row for row in read_results(made / "results" / "toy.json")}


def test_each_way_has_a_row_and_the_better_one_on_dev_stands_for_the_method(made: Path) -> None:
    found = rows(made)
    for method in ("none", "again", "sentences"):
        ways = {way: found[f"{method}, {way}"] for way in ("probe", "fine-tuned")}
        best = max(ways, key=lambda way: ways[way].extra("dev_uar"))
        assert found[method].extra("way") == best
        assert found[method].uar == ways[best].uar
        assert all(row.label_fraction == 0.5 for row in ways.values())
    meta = read_meta(made / "runs" / "toy" / "sentences" / "labels-50" / "fine-tuned", "finetune")
    scores = [choice["dev_uar"] for choice in meta["choices"].values()]
    assert found["sentences, fine-tuned"].extra("dev_uar") == pytest.approx(np.mean(scores))
    assert "epochs: 2" in (made / "runs/toy/none/labels-50/fine-tuned/config.yaml").read_text()


def test_paired_differences_are_taken_from_each_rival(made: Path) -> None:
    found = rows(made)
    versus = found["sentences"].extra("versus")
    assert found["sentences"].against == "none"
    for rival in ("none", "again"):
        value, low, high = versus[rival]
        assert value == pytest.approx(found["sentences"].uar - found[rival].uar, abs=1e-6)
        assert (low, high) == (None, None)  # one test speaker makes no interval
    page = (made / "results" / "toy.md").read_text(encoding="utf-8")
    assert "## Paired differences" in page


def test_the_page_shows_how_the_pretrainings_went(made: Path) -> None:
    page = (made / "results" / "toy.md").read_text(encoding="utf-8")
    assert "](toy-losses.png)" in page
    assert (made / "results" / "toy-losses.png").stat().st_size > 1000


def test_the_pretrained_encoder_is_the_one_that_was_used(made: Path) -> None:
    config = json.loads((made / "runs/toy/sentences/labels-50/probe/recogniser/config.json").read_text())
    assert config["pretrained"]
    assert config["speakers_seen"]["without_labels"]
    pretraining = made / "runs/toy/pretraining/sentences"
    assert (pretraining / "DONE").exists()


def test_it_goes_on_where_it_stopped(made: Path, corpus: Manifest) -> None:
    kept = {file: file.stat().st_mtime_ns for file in (made / "runs").rglob("*.safetensors")}
    experiment(made / "toy.yaml", corpus, made / "results", made / "runs")
    assert kept == {file: file.stat().st_mtime_ns for file in (made / "runs").rglob("*.safetensors")}


def test_a_pretraining_that_nobody_described_is_refused(tmp_path: Path, corpus: Manifest) -> None:
    plan = "title: T\nsettings: {protocol: speaker-kfold}\nrows: [{method: a, pretrained: clusers}]\n"
    (tmp_path / "t.yaml").write_text(plan + "pretraining: {clusters: {}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="did you mean 'clusters'"):
        experiment(tmp_path / "t.yaml", corpus, tmp_path, tmp_path)


def test_the_published_sizes_in_the_repository_can_be_read() -> None:
    files = sorted((EXPERIMENTS / "pretrain").glob("*.yaml"))
    found = {file.stem: pretrain_settings(file).encoder for file in files}
    assert {name: encoder.name for name, encoder in found.items()} == {
        "mockingjay-base": "mockingjay",
        "npc": "npc",
    }
    millions = {
        name: sum(each.numel() for each in build_encoder(encoder).parameters()) / 1e6
        for name, encoder in found.items()
    }
    assert millions["mockingjay-base"] == pytest.approx(21.5, abs=0.1)
    assert millions["npc"] == pytest.approx(8.8, abs=0.1)


@pytest.mark.parametrize(
    "file", sorted([*EXPERIMENTS.glob("*.yaml"), *EXPERIMENTS.glob("planned/*.yaml")]), ids=lambda f: f.stem
)
def test_the_experiments_in_the_repository_can_be_read(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = file.read_text(encoding="utf-8")
    comments = "".join(line for line in text.splitlines(True) if line.startswith("#"))
    assert f"# affetto experiment experiments/{file.relative_to(EXPERIMENTS)} " in comments
    # Nothing is looked up on the hub here.
    monkeypatch.setattr(methods, "RECIPES", {**methods.RECIPES, "wav2vec2": methods.RECIPES["cnn"]})
    text = text.replace("{name: wav2vec2}", "{name: cnn}").replace("whisper-blocks", "whisper")
    text = text.replace("{name: whisper", "{name: cnn").replace("encoder: {trained_blocks: 2}", "encoder: {}")
    text = text.replace("name: whisper-means", "name: ge2e-means").replace("{trained_blocks: 2}", "{}")
    text = text.replace("encoder: whisper", "encoder: cnn").replace("head_only: true", "head_only: false")
    if (text_encoder := "sentence-transformers/all-MiniLM-L6-v2") in text:
        text = text.replace(text_encoder, str(save_tiny_text(tmp_path / "text")))
    plan = yaml.safe_load(text)
    built = build(Experiment, plan)
    check(built, trainer)
    for row in built.rows:
        given = {**built.settings, **row.settings}
        if not str(given.get("encoder")).startswith("runs/"):  # those folders another plan makes
            trainer(given.get("head"))[0](**given)


def test_the_list_of_experiments_names_each_with_its_command() -> None:
    text = (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    for page in set(EXPERIMENTS.glob("*.md")) - {EXPERIMENTS / "README.md"}:
        assert f"({page.name})" in text, page.name
    for plan in EXPERIMENTS.glob("*.yaml"):
        [command] = re.findall(r"^# (affetto experiment .*)$", plan.read_text(encoding="utf-8"), re.MULTILINE)
        assert f"`{command}`" in text, command
