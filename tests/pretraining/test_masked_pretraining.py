"""Pretraining on hidden frames: led by curves, guarded against labels, together with tasks on views."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from affetto.corpora.arrays import cell
from affetto.corpora.curves import write_curves
from affetto.corpora.manifest import Manifest
from affetto.errors import ConfigError, LeakError, ManifestError, RunError
from affetto.evaluation.run import evaluate
from affetto.features import FrontEnd
from affetto.finetuning.run import finetune
from affetto.finetuning.settings import finetune_settings
from affetto.material.recordings import Recordings
from affetto.models.checkpoint import read_config
from affetto.pretraining.columns import CurveColumn
from affetto.pretraining.run import pretrain
from affetto.pretraining.settings import PretrainSettings, pretrain_settings
from affetto.runs import RunFolder

MOCKINGJAY = ("encoder.width=16", "encoder.heads=2", "encoder.blocks=1", "encoder.feed_forward=16")
NPC = ("encoder.width=8", "encoder.blocks=1")
TRAIN = ("train.epochs=2", "train.batch_size=16", "encoder.bins=20")
FOLD = "seed-0/fold-1"
HOP = 0.02


def curved(
    corpus: Manifest,
    folder: Path,
    column: str = "intensity",
    labelled: list[str] | None = None,
    columns: int = 1,
    **info: object,
) -> Manifest:
    """Returns the corpus with made-up curves: rising from 0 to 1, the second column falling."""
    lengths = [
        max(1, round(samples / 16_000 / HOP)) for samples in Recordings(corpus).waveforms.lengths.tolist()
    ]
    rising = np.concatenate([np.linspace(0, 1, length, dtype=np.float32) for length in lengths])
    values = np.stack([rising, 1 - rising][:columns], 1)
    described = {
        "source": "made-up",
        "source_sha256": "0",
        "hop_seconds": HOP,
        "protocol": None,
        "folds": None,
        "speakers_seen": {"with_labels": {"": labelled or []}, "without_labels": []},
        **info,
    }
    write_curves(
        folder / f"{column}.npy", values, lengths, [str(row) for row in range(len(lengths))], described
    )
    cells = [cell(folder / f"{column}.npy", row) for row in range(len(lengths))]
    return Manifest(corpus.table.assign(**{column: cells}), corpus.roots)


def masked(objective: str, *overrides: str, **given: object) -> PretrainSettings:
    shape = MOCKINGJAY if objective == "mockingjay" else NPC
    return pretrain_settings(None, (*shape, *TRAIN, *overrides), objective=objective, **given)


def log(run: RunFolder) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / FOLD / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("objective", "overrides"),
    [
        ("mockingjay", ("masking.guidance=emotional", "mockingjay.intensity_loss=true")),
        ("mockingjay", ("encoder.front_end=fbank", "encoder.deltas=1", "mockingjay.intensity_input=true")),
        ("npc", ("masking.guidance=intensity", "npc.frames=chosen")),
    ],
)
def test_a_masked_objective_learns_and_its_log_shows_the_share_that_was_hidden(
    objective: str, overrides: tuple[str, ...], corpus: Manifest, tmp_path: Path
) -> None:
    manifest = curved(corpus, tmp_path)
    run = pretrain(
        manifest,
        masked(objective, *overrides, "train.epochs=6", "train.learning_rate=1e-2"),
        tmp_path / "run",
    )
    rows = log(run)
    assert rows[-1][objective] < rows[0][objective]
    assert all(row["hidden_share"] == pytest.approx(0.15, abs=0.02) for row in rows)
    config = read_config(run / FOLD / "encoder")
    assert config["encoder"]["name"] == objective
    asked = dict(each.split("=") for each in overrides)
    assert config["masking"]["guidance"] == asked.get("masking.guidance", "random")
    assert config["switches"]["intensity_input"] == ("mockingjay.intensity_input" in asked)


def test_guides_lie_on_feature_frames_and_only_where_they_are_asked_for(
    corpus: Manifest, tmp_path: Path
) -> None:
    manifest, front_end = curved(corpus, tmp_path), FrontEnd(bins=20)
    recordings, rows = Recordings(manifest), np.array([3, 1, 7])
    column = CurveColumn(manifest, "intensity", "annotate intensity")
    found = column.on_frames(recordings, rows, front_end, 1)
    frames = recordings.features(front_end).lengths
    assert (found.lengths[rows] == frames[rows]).all()
    assert found.lengths.sum() == found.lengths[rows].sum()
    assert np.corrcoef(found[3][:, 0], np.arange(len(found[3])))[0, 1] > 0.99


def test_curves_that_rest_on_labels_of_test_speakers_are_refused(corpus: Manifest, tmp_path: Path) -> None:
    owners = sorted({f"toy/{name}" for name in corpus.table["speaker"]})
    settings = masked("mockingjay", "masking.guidance=emotional", protocol="speaker-kfold")
    everyone = curved(corpus, tmp_path, labelled=owners)
    with pytest.raises(LeakError, match=r"tests.*annotate intensity --protocol speaker-kfold"):
        pretrain(everyone, settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    free = pretrain(everyone, masked("mockingjay", "masking.guidance=emotional"), tmp_path / "free")
    seen = read_config(free / FOLD / "encoder")["speakers_seen"]
    assert seen["with_labels"] == owners
    plain = pretrain(everyone, masked("mockingjay"), tmp_path / "plain")
    assert read_config(plain / FOLD / "encoder")["speakers_seen"]["with_labels"] == []


def test_another_curve_is_another_pretraining(corpus: Manifest, tmp_path: Path) -> None:
    settings = masked("mockingjay", "masking.guidance=energy", "train.epochs=1")
    run = pretrain(curved(corpus, tmp_path, "loudness"), settings, tmp_path / "run")
    (tmp_path / "other").mkdir()
    other = curved(corpus, tmp_path / "other", "loudness")
    array = np.load(tmp_path / "other" / "loudness.npy")
    np.save(tmp_path / "other" / "loudness.npy", array[::-1].copy())
    with pytest.raises(RunError, match="knowledge_sha256"):
        pretrain(other, settings, run.path)


def test_what_is_missing_or_does_not_fit_is_said(corpus: Manifest, tmp_path: Path) -> None:
    emotional = masked("mockingjay", "masking.guidance=emotional")
    with pytest.raises(ManifestError, match=r"lacks the column 'intensity'.*annotate intensity"):
        pretrain(corpus, emotional, tmp_path / "run")
    gone = curved(corpus, tmp_path)
    (tmp_path / "intensity.json").unlink()
    with pytest.raises(ManifestError, match="annotate intensity"):
        pretrain(gone, emotional, tmp_path / "run")
    with pytest.raises(ManifestError, match=r"lacks the column 'other'.*annotate intensity"):
        pretrain(corpus, masked("mockingjay", "masking.guidance=other"), tmp_path / "run")
    for idle in ("masking.guidance=emotional", "masking.ratio=0.2"):
        with pytest.raises(ConfigError, match=r"settings of masking would do nothing.*npc\.frames=chosen"):
            masked("npc", idle)
    with pytest.raises(ConfigError, match="settings of masking would do nothing"):
        pretrain_settings(None, ("masking.guidance=emotional",))
    with pytest.raises(ConfigError, match="settings of npc would do nothing"):
        masked("mockingjay", "npc.quantise=true")
    with pytest.raises(ConfigError, match="looks at no column"):
        masked("mockingjay", "masking.column=loudness")
    with pytest.raises(ConfigError, match="give a weight to one of them"):
        pretrain_settings(None, (), objective="multitask", weights={"npc": 1, "mockingjay": 1})
    with pytest.raises(ConfigError, match="npc trains the encoder npc"):
        pretrain(
            corpus, pretrain_settings(None, TRAIN, objective="multitask", weights={"npc": 1}), tmp_path / "r"
        )


def test_contrast_and_hidden_frames_train_one_encoder_together(corpus: Manifest, tmp_path: Path) -> None:
    weights = {"contrastive": 1, "mockingjay": 0.5}
    settings = pretrain_settings(
        None,
        (*MOCKINGJAY, *TRAIN, "encoder.name=mockingjay", "per_speaker=8", "masking.guidance=emotional"),
        objective="multitask",
        groups="text",
        weights=weights,
    )
    run = pretrain(curved(corpus, tmp_path), settings, tmp_path / "run")
    row = log(run)[-1]
    assert {"contrastive", "mockingjay", "hidden_share"} <= set(row)
    assert torch.isfinite(torch.tensor([row["contrastive"], row["mockingjay"]])).all()
    assert read_config(run / FOLD / "encoder")["tasks"] == weights


def test_curves_made_fold_by_fold_lead_their_own_fold(corpus: Manifest, tmp_path: Path) -> None:
    names = sorted(set(corpus.table["speaker"]))
    protocol = _written(
        tmp_path, [{"test": names[:2], "dev": names[2:4]}, {"test": names[2:4], "dev": names[:2]}], corpus
    )
    seen = {str(fold): [f"toy/{name}" for name in names[4:]] for fold in (1, 2)}
    manifest = curved(
        corpus,
        tmp_path,
        columns=2,
        protocol="own",
        folds=[1, 2],
        speakers_seen={"with_labels": seen, "without_labels": []},
    )
    recordings, rows = Recordings(manifest), np.array([0, 1])
    column = CurveColumn(manifest, "intensity", "annotate intensity")
    ways = [column.on_frames(recordings, rows, FrontEnd(bins=20), fold)[0][:, 0] for fold in (1, 2)]
    assert ways[0][-1] > ways[0][0]
    assert ways[1][-1] < ways[1][0]
    settings = masked("mockingjay", "masking.guidance=emotional", "train.epochs=1", protocol=protocol)
    run = pretrain(manifest, settings, tmp_path / "run")
    config = read_config(run / "seed-0" / "fold-2" / "encoder")
    assert config["speakers_seen"]["with_labels"] == seen["2"]
    with pytest.raises(ManifestError, match="speaker-kfold is asked for"):
        pretrain(
            manifest,
            masked("mockingjay", "masking.guidance=emotional", protocol="speaker-kfold"),
            tmp_path / "other",
        )


def test_utterances_that_nobody_hears_need_no_curve(corpus: Manifest, tmp_path: Path) -> None:
    manifest = curved(corpus, tmp_path)
    names = sorted(set(corpus.table["speaker"]))
    protocol = _written(tmp_path, [{"test": names[:2], "dev": names[2:4]}], corpus)
    bare = manifest.table["intensity"].mask(manifest.table["speaker"].isin(names[:4]), None)
    settings = masked("mockingjay", "masking.guidance=emotional", "train.epochs=1", protocol=protocol)
    assert pretrain(
        Manifest(manifest.table.assign(intensity=bare), manifest.roots), settings, tmp_path / "run"
    ).done
    first = manifest.keys[int(np.flatnonzero(manifest.table["speaker"] == names[5])[0])]
    heard = manifest.table["intensity"].mask(manifest.table["key"] == first, None)
    with pytest.raises(ManifestError, match="empty in 1 rows"):
        pretrain(
            Manifest(manifest.table.assign(intensity=heard), manifest.roots),
            masked("mockingjay", "masking.guidance=emotional"),
            tmp_path / "other",
        )


def _written(folder: Path, folds: list[dict[str, list[str]]], corpus: Manifest) -> str:
    """Writes a protocol of the toy corpus, and returns its file."""
    text = {
        "name": "own",
        "description": "made up",
        "corpus": "toy",
        "labels": sorted(set(corpus.table["emotion"])),
        "units": sorted(set(corpus.table["speaker"])),
        "folds": folds,
        "dev_rule": "made up",
        "label_source": "made up",
    }
    (folder / "own.yaml").write_text(yaml.safe_dump(text), encoding="utf-8")
    return str(folder / "own.yaml")


def test_a_speaker_is_known_again_after_corpora_were_joined(corpus: Manifest, tmp_path: Path) -> None:
    names = sorted(set(corpus.table["speaker"]))
    curves = curved(corpus, tmp_path, labelled=[f"toy/{name}" for name in names])
    second = Manifest(curves.table.assign(corpus="second"), {"second": corpus.roots["toy"]})
    both = Manifest.join([curves, second])
    assert f"toy/{names[0]}" in set(both.table["speaker"])
    with pytest.raises(LeakError, match="tests: toy/"):
        pretrain(
            both,
            masked("mockingjay", "masking.guidance=emotional", protocol="speaker-kfold"),
            tmp_path / "run",
        )
    run = pretrain(
        both, masked("mockingjay", "masking.guidance=emotional", "train.epochs=1"), tmp_path / "free"
    )
    settings = finetune_settings(
        protocol="speaker-kfold", encoder=str(run.path), frozen=True, enrolment=False, train={"epochs": 1}
    )
    for manifest, name in (
        (corpus, "named"),
        (Manifest(corpus.table.assign(corpus=None), {"": corpus.roots["toy"]}), "bare"),
    ):
        with pytest.raises(LeakError, match="labels the recogniser was trained on"):
            evaluate(finetune(manifest, settings, tmp_path / name).path)


def test_a_curve_that_is_no_number_is_named(corpus: Manifest, tmp_path: Path) -> None:
    manifest = curved(corpus, tmp_path)
    array = np.load(tmp_path / "intensity.npy")
    array[0] = np.nan
    np.save(tmp_path / "intensity.npy", array)
    with pytest.raises(ManifestError, match=f"{manifest.keys[0]}: its curve holds what is no finite number"):
        pretrain(manifest, masked("mockingjay", "mockingjay.intensity_input=true"), tmp_path / "run")
