"""Pretraining from end to end: what is heard, what is kept, going on, and starting a recogniser from it."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from affetto.cli import app
from affetto.corpora.arrays import cell, write_vectors
from affetto.corpora.manifest import Manifest
from affetto.errors import CheckpointError, ConfigError, LeakError, ManifestError, RunError
from affetto.evaluation.run import evaluate
from affetto.finetuning.run import finetune
from affetto.finetuning.settings import finetune_settings
from affetto.masking import MaskSettings
from affetto.material.recordings import Recordings
from affetto.models.checkpoint import find_encoder, read_config
from affetto.objectives.tasks import TASKS, task_settings
from affetto.pretraining.columns import GroupColumn, PlainColumn, VectorColumn
from affetto.pretraining.run import pretrain
from affetto.pretraining.settings import PretrainSettings, VectorSettings, pretrain_settings
from affetto.runs import RunFolder

TINY = ("encoder.width=16", "encoder.blocks=1", "encoder.bins=20", "train.epochs=2", "train.batch_size=16")
MASKED = (
    "encoder.width=16",
    "encoder.heads=2",
    "encoder.blocks=1",
    "encoder.feed_forward=16",
    "encoder.bins=20",
    "train.batch_size=16",
)
FOLD = "seed-0/fold-1"


def tiny(*overrides: str, **given: object) -> PretrainSettings:
    return pretrain_settings(None, (*TINY, "per_speaker=8", *overrides), **given)


@pytest.fixture(scope="session")
def annotated(corpus: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The toy corpus with made-up clusters and vectors, and no emotion at all."""
    folder = tmp_path_factory.mktemp("annotated")
    table = corpus.table.copy()
    generator = np.random.default_rng(0)
    table["cluster"] = [str(row % 3) for row in range(len(table))]
    vectors = generator.normal(size=(len(table), 6)).astype(np.float32)
    info = {"encoder": "made-up", "encoder_sha256": "0"}
    write_vectors(folder / "v.npy", vectors, [str(row) for row in range(len(table))], info)
    table["speaker_embedding"] = [cell(folder / "v.npy", row) for row in range(len(table))]
    return Manifest(table, corpus.roots)


def without_emotion(manifest: Manifest) -> Manifest:
    return Manifest(manifest.table.assign(emotion=None), manifest.roots)


@pytest.fixture(scope="module")
def straight(annotated: Manifest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return pretrain(without_emotion(annotated), tiny(), tmp_path_factory.mktemp("straight") / "run")


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(run / FOLD / "encoder" / "model.safetensors")


def test_no_label_is_needed_and_what_was_heard_is_kept(straight: RunFolder) -> None:
    assert straight.done
    config = read_config(straight / FOLD / "encoder")
    heard = [f"toy/{name}" for name in ("f01", "f02", "f03", "m01", "m02", "m03")]
    assert config["speakers_seen"] == {"with_labels": [], "without_labels": heard}
    assert config["groups"] == "cluster"
    assert config["encoder"]["name"] == "tdnn"
    assert "affetto finetune" in (straight / FOLD / "encoder" / "README.md").read_text()
    rows = [json.loads(line) for line in (straight / FOLD / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all("contrastive" in row for row in rows)


def test_the_oracle_is_known_to_have_used_labels(annotated: Manifest, tmp_path: Path, protocol: Path) -> None:
    run = pretrain(annotated, tiny(groups="emotion"), tmp_path / "oracle")
    assert len(read_config(run / FOLD / "encoder")["speakers_seen"]["with_labels"]) == 6
    # It heard the labels of everybody, so no speaker is left to test on.
    settings = finetune_settings(
        None, ("train.epochs=1",), protocol=str(protocol), encoder=str(run.path), enrolment=False
    )
    with pytest.raises(LeakError, match="f03"):
        evaluate(finetune(annotated, settings, tmp_path / "leak").path)


def test_a_protocol_keeps_its_dev_and_test_speakers_unheard(
    annotated: Manifest, protocol: Path, tmp_path: Path
) -> None:
    settings = tiny(protocol=str(protocol))
    run = pretrain(annotated, settings, tmp_path / "run")
    seen = read_config(run / FOLD / "encoder")["speakers_seen"]
    assert seen["without_labels"] == ["toy/f01", "toy/f02", "toy/m01", "toy/m02"]
    # Nothing of the others is looked at: their clusters and their sound may be anything.
    table = annotated.table.copy()
    others = table["speaker"].isin(["f03", "m03"])
    table.loc[others, "cluster"] = 9
    table.loc[others, "file"] = table.loc[others, "file"].iloc[::-1].tolist()
    other = pretrain(Manifest(table, annotated.roots), settings, tmp_path / "other")
    for name, tensor in weights(run).items():
        assert torch.equal(tensor, weights(other)[name]), name


def test_new_clusters_do_not_pass_for_the_old_ones(straight: RunFolder, annotated: Manifest) -> None:
    other = without_emotion(annotated)
    changed = Manifest(other.table.assign(cluster=(other.table["cluster"] + 1) % 3), other.roots)
    with pytest.raises(RunError, match="knowledge_sha256"):
        pretrain(changed, tiny(), straight.path)


@pytest.mark.parametrize("way", ["frozen", "trained", "logistic"])
def test_a_recogniser_starts_from_it(
    straight: RunFolder, annotated: Manifest, protocol: Path, tmp_path: Path, way: str
) -> None:
    settings = finetune_settings(
        None,
        ("train.epochs=1", *(["head=logistic"] if way == "logistic" else [])),
        protocol=str(protocol),
        encoder=str(straight.path),
        frozen=way == "frozen",
        enrolment=False,
    )
    assert settings.recipe == "tdnn"
    run = finetune(annotated, settings, tmp_path / way)
    found = load_file(run / FOLD / "recogniser" / "model.safetensors")
    alike = [
        torch.equal(found[f"embedder.encoder.{name}"], tensor) for name, tensor in weights(straight).items()
    ]
    assert not any(alike) if way == "trained" else all(alike)
    report = evaluate(run.path)
    assert "f03" in report.markdown()
    assert "f03, tested in fold 1" in report.markdown()  # it was in training without labels


def test_running_again_does_nothing(straight: RunFolder, annotated: Manifest) -> None:
    file = straight / FOLD / "encoder" / "model.safetensors"
    before = file.stat().st_mtime_ns
    pretrain(without_emotion(annotated), tiny(), straight.path)
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "overrides",
    [
        (*TINY, "per_speaker=8"),
        (*MASKED, "--objective", "mockingjay"),
    ],
    ids=["contrastive", "mockingjay"],
)
def test_kill_9_and_the_same_command_again(
    annotated: Manifest, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    listed = tmp_path / "annotated.csv"
    annotated.write(listed)
    words = ["pretrain", "--manifest", str(listed), *overrides, "train.epochs=4", "train.checkpoint_steps=1"]
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    assert CliRunner().invoke(app, [*words, "-o", str(whole.path)]).exit_code == 0
    line = [sys.executable, "-m", "affetto", *words, "-o", str(killed.path)]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = killed / FOLD / "metrics.jsonl"
    for _ in range(1200):
        if (log.exists() and log.read_text().count("\n") >= 2) or process.poll() is not None:
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not killed.done
    assert CliRunner().invoke(app, [*words, "-o", str(killed.path)]).exit_code == 0
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(killed)[name]), name


# Without what is drawn: each process draws its own.
ONE_VIEW = (
    *TINY,
    "encoder.drop_path=0",
    "views.crop_seconds=0",
    "views.augment={gain_db: 0, noise_probability: 0, speed: null}",
    "views.augment.time_masks=0",
    "views.augment.frequency_masks=0",
    "per_speaker=8",
)
ALL_FRAMES = (*TINY, "--objective", "npc", "npc.frames=all", "encoder.dropout=0")
SEVERAL = """
import json, sys
from affetto.cli import app
for words in json.loads(sys.argv[1]):
    app(words, standalone_mode=False)
"""


def test_two_processes_are_one(annotated: Manifest, tmp_path: Path) -> None:
    annotated.write(tmp_path / "annotated.csv")
    (tmp_path / "several.py").write_text(SEVERAL)
    asked = ["pretrain", "--manifest", str(tmp_path / "annotated.csv"), "train.epochs=1"]
    by_two: list[list[str]] = []
    for name, exact in {"contrastive": ONE_VIEW, "npc": ALL_FRAMES}.items():
        words = [*asked, *exact, "train.batch_size=16", "-o", str(tmp_path / f"{name}-1")]
        assert CliRunner().invoke(app, words).exit_code == 0
        by_two.append([*asked, *exact, "train.batch_size=8", "-o", str(tmp_path / f"{name}-2")])
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    line = [*start, str(tmp_path / "several.py"), json.dumps(by_two)]
    subprocess.run(line, check=True, capture_output=True)
    for name in ("contrastive", "npc"):
        one, two = (weights(RunFolder(tmp_path / f"{name}-{count}")) for count in (1, 2))
        for parameter, tensor in one.items():
            torch.testing.assert_close(tensor, two[parameter], rtol=1e-3, atol=1e-4)


def test_all_tasks_together(annotated: Manifest, tmp_path: Path) -> None:
    settings = tiny(
        "weights={contrastive: 1, instance: 0.5, vector: 1, speaker: 0.1}",
        "weights.adversary=0.05",
        "weights.reconstruction=0.2",
        "vectors.content=text",
        objective="multitask",
    )
    run = pretrain(annotated, settings, tmp_path / "run")
    row = json.loads((run / FOLD / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"contrastive", "instance", "vector", "speaker", "adversary", "reconstruction"} <= set(row)
    assert read_config(run / FOLD / "encoder")["tasks"]["reconstruction"] == 0.2


def test_similar_vectors_must_come_from_the_encoder_that_the_config_names(
    annotated: Manifest, tmp_path: Path
) -> None:
    similar = ("contrastive.positives=similar", "vectors.dims=4")
    run = pretrain(annotated, tiny(*similar, "vectors.encoder=made-up"), tmp_path / "run")
    assert run.done
    with pytest.raises(ManifestError, match="made-up"):
        pretrain(annotated, tiny(*similar, "vectors.encoder=ge2e"), tmp_path / "other")


def test_new_contents_do_not_pass_for_the_old_ones(annotated: Manifest, tmp_path: Path) -> None:
    settings = tiny("weights.vector=1", "vectors.content=text", "vectors.dims=3", objective="multitask")
    run = pretrain(annotated, settings, tmp_path / "run")
    changed = Manifest(
        annotated.table.assign(text=annotated.table["text"].iloc[::-1].tolist()), annotated.roots
    )
    with pytest.raises(RunError, match="knowledge_sha256"):
        pretrain(changed, settings, run.path)


def test_what_is_foretold_is_centred_rid_of_content_and_of_few_dimensions(
    annotated: Manifest, tmp_path: Path
) -> None:
    table = annotated.table.copy()
    generator = np.random.default_rng(1)
    vectors = generator.normal(size=(len(table), 6)).astype(np.float32)
    sentences = 3 * generator.normal(size=(table["text"].nunique(), 6)).astype(np.float32)
    vectors += sentences[pd.factorize(table["text"])[0]]
    vectors += 9 * pd.factorize(table["speaker"])[0][:, None].astype(np.float32)
    write_vectors(
        tmp_path / "v.npy", vectors, table["key"].tolist(), {"encoder": "made-up", "encoder_sha256": "0"}
    )
    table["speaker_embedding"] = [cell(tmp_path / "v.npy", row) for row in range(len(table))]
    manifest = Manifest(table, annotated.roots)
    recordings = Recordings(manifest)
    rows = np.arange(len(table) - 10)  # the last ones must not matter

    def explained(column: str, **given: Any) -> float:
        settings = VectorSettings(dims=3, whiten=0, **given)
        found = VectorColumn(manifest, settings, "annotate speakers").of(recordings, rows).numpy()
        assert found.shape == (len(table), 3)
        assert not found[len(rows) :].any()
        own = pd.DataFrame(found[: len(rows)])
        means = own.groupby(table[column].to_numpy()[: len(rows)]).transform("mean")
        return float((means**2).to_numpy().sum() / (own**2).to_numpy().sum())

    assert explained("speaker", centre=False) > 0.5
    assert explained("speaker") < 1e-6
    assert explained("text") > 0.5
    assert explained("text", content="text") < 0.1


def test_speakers_of_two_corpora_with_the_same_name_are_two(corpus: Manifest, tmp_path: Path) -> None:
    table = pd.concat([corpus.table, corpus.table.assign(corpus="second")], ignore_index=True)
    table["key"] = table["corpus"] + "/" + table["key"]
    both = Manifest(table, {"toy": corpus.roots["toy"], "second": corpus.roots["toy"]})
    run = pretrain(both, tiny("train.epochs=1", groups="text"), tmp_path / "run")
    heard = read_config(run / FOLD / "encoder")["speakers_seen"]["without_labels"]
    assert len(heard) == 12
    assert "second/f01" in heard


def test_what_is_missing_is_said_before_anything_runs(corpus: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no column 'cluster'.*annotate clusters"):
        pretrain(corpus, tiny(), tmp_path / "run")
    nameless = Manifest(corpus.table.assign(speaker=None), corpus.roots)
    with pytest.raises(ManifestError, match="'speaker' is empty in 60 rows"):
        pretrain(nameless, tiny(), tmp_path / "run")
    with pytest.raises(ManifestError, match="annotate speakers"):
        pretrain(corpus, tiny("contrastive.positives=similar"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_tasks_that_do_not_fit_the_objective_are_refused() -> None:
    with pytest.raises(ConfigError, match="choose --objective multitask"):
        tiny("weights={contrastive: 1, speaker: 1}")
    with pytest.raises(ConfigError, match="no task has a weight"):
        tiny("weights={speaker: 0}", objective="multitask")
    with pytest.raises(ConfigError, match="contrastve"):
        tiny("weights={contrastve: 1}", objective="multitask")
    with pytest.raises(ConfigError, match=r"leave out vectors\.content"):
        tiny("vectors.centre=false", "vectors.content=text")


@pytest.mark.parametrize(
    ("objective", "overrides", "message"),
    [
        ("mockingjay", ("groups=text",), "settings of groups would do nothing: groups is for contrastive"),
        ("contrastive", ("groups=text", "contrastive.positives=view"), "settings of groups .* --objective"),
        ("contrastive", ("vectors.dims=8",), "settings of vectors .* --objective vector"),
        ("multitask", ("weights.speaker=1", "contrastive.temperature=1"), "settings of contrastive would"),
        ("contrastive", ("instance.temperature=1",), "settings of instance .* --objective instance"),
        ("contrastive", ("speaker.margin=0.1",), "settings of speaker .* speaker or adversary"),
        ("mockingjay", ("views.crop_seconds=1",), "settings of views would do nothing: .* two views"),
        ("npc", ("per_speaker=4",), "settings of per_speaker would do nothing: .* two views"),
        ("npc", ("mockingjay.intensity_loss=true",), "settings of mockingjay would do nothing"),
        ("contrastive", ("contrastive.matched=true",), "matched=true with positives=group and candidates=sp"),
        ("contrastive", ("contrastive.target_temperature=1",), "target_temperature=1 with positives=group"),
        ("speaker", ("speaker.scale=10",), "got scale=10 with margin=0; .* leave scale out"),
        ("mockingjay", ("masking.sharpness=3",), "random looks at no column; leave sharpness out"),
        ("contrastive", ("views.augment.mixup=0.4",), r"views\.augment\.mixup=0\.4.*not mixed; leave it out"),
        ("contrastive", ("train.patience=3",), r"train\.patience=3.*no score"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(
    objective: str, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        pretrain_settings(None, overrides, objective=objective)


@pytest.mark.parametrize(
    ("objective", "overrides"),
    [
        ("instance", ("instance.positives=group", "groups=text")),
        ("multitask", ("weights.vector=1", "vectors.dims=8")),
        ("contrastive", ("contrastive.positives=similar", "contrastive.target_temperature=1")),
        ("adversary", ("speaker.margin=0.1", "speaker.scale=10", "per_speaker=4")),
        ("npc", ("npc.frames=chosen", "masking.ratio=0.2")),
        ("contrastive", ("contrastive={candidates: all, matched: true}",)),
    ],
)
def test_settings_that_a_task_reads_are_taken(objective: str, overrides: tuple[str, ...]) -> None:
    assert pretrain_settings(None, overrides, objective=objective).objective == objective


def task_table() -> str:
    """Returns the table that ``docs/pretraining.md`` has of the tasks."""
    rows = ["| task | what | columns it needs |", "|---|---|---|"]
    for name, task in TASKS.items():
        needs = task.needs(task_settings(name), MaskSettings())
        made = [f"`{column}`" + f" (`affetto {verb}`)" * (verb != "scan") for column, verb in needs.items()]
        rows.append(f"| `{name}` | {task.about} | {', '.join(made)} |".replace("|  |", "| |"))
    return "\n".join(rows)


def test_a_task_is_a_class_and_a_row_of_the_table(
    corpus: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "examples")
    monkeypatch.setitem(TASKS, "age", None)  # what the example puts there is taken out again
    importlib.import_module("own_task")
    assert "| `age` | predicting age | `age` |" in task_table()

    def run(*words: str, column: str = "age") -> Result:
        ages = np.arange(len(corpus)) / len(corpus)
        Manifest(corpus.table.assign(**{column: ages}), corpus.roots).write(tmp_path / "m.csv")
        line = ["pretrain", "--manifest", str(tmp_path / "m.csv"), "-o", str(tmp_path / "run")]
        return CliRunner().invoke(app, [*line, *TINY, "train.epochs=1", *words])

    lacking = str(run("--objective", "age", column="years").exception)
    assert "lacks the column 'age'" in lacking
    assert lacking.endswith("affetto scan makes such a column")
    assert not (tmp_path / "run").exists()
    assert "settings of age would do nothing" in str(run("age.unit=20").exception)
    assert "'age'" in str(run("--objective", "aeg").exception)
    found = run("--objective", "multitask", "weights={age: 1, instance: 0.5}", "age.unit=20", "per_speaker=8")
    assert found.exit_code == 0, found.output
    row = json.loads((tmp_path / "run" / FOLD / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"age", "instance"} <= set(row)


def test_a_column_of_a_task_holds_numbers_or_numbered_values(corpus: Manifest) -> None:
    ages = np.arange(len(corpus), dtype=float)
    ages[3] = np.nan
    manifest = Manifest(corpus.table.assign(age=ages), corpus.roots)
    recordings, rows = Recordings(manifest), np.array([0, 1])
    assert PlainColumn(manifest, "age", "scan").of(recordings, rows)[:2].tolist() == [0, 1]
    assert PlainColumn(manifest, "emotion", "scan").of(recordings, rows).max() == 4
    with pytest.raises(ManifestError, match="'age' is empty in 1 rows"):
        PlainColumn(manifest, "age", "scan").of(recordings, np.array([2, 3]))
    with pytest.raises(ManifestError, match="'session' is empty in every row; run affetto scan"):
        PlainColumn(manifest, "session", "scan")
    with pytest.raises(ManifestError, match="'session' is empty in every row; run affetto annotate clusters"):
        GroupColumn(manifest, "session", "annotate clusters")


def test_the_table_of_tasks_in_the_docs_is_that_of_the_code() -> None:
    page = Path(__file__).parents[2] / "docs" / "pretraining.md"
    assert task_table() in page.read_text(encoding="utf-8")


def test_a_folder_without_an_encoder_is_refused(tmp_path: Path, straight: RunFolder) -> None:
    with pytest.raises(CheckpointError, match="no pretrained encoder"):
        finetune_settings(protocol="speaker-kfold", encoder=str(tmp_path))
    assert find_encoder(straight.path, "another", seed=4) == straight / FOLD / "encoder"


def test_recordings_that_cannot_be_read_are_named(corpus: Manifest, tmp_path: Path) -> None:
    table = corpus.table.copy()
    table.loc[0, "file"] = "gone.flac"
    Manifest(table, corpus.roots).write(tmp_path / "m.csv")
    words = [
        "pretrain",
        "--manifest",
        str(tmp_path / "m.csv"),
        "--objective",
        "npc",
        "-o",
        str(tmp_path / "run"),
    ]
    settings = ["encoder.width=16", "encoder.blocks=2", "train.epochs=1"]
    result = CliRunner().invoke(app, words + settings)
    assert result.exit_code == 0, result.output
    assert f"left out: {corpus.keys[0]}: " in result.output
    assert "gone.flac: no such file" in result.output
