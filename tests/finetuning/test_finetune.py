"""Finetune as a whole: it resumes, shares batches, looks at no test row, and leaves a folder that says so."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from affetto.cli import app
from affetto.corpora.manifest import Manifest
from affetto.errors import ProtocolError, RunError
from affetto.finetuning import run as module
from affetto.finetuning.fold import labelled_part
from affetto.finetuning.run import finetune
from affetto.finetuning.settings import finetune_settings
from affetto.models.checkpoint import load_weights, read_config
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.ge2e import published_weights
from affetto.runs import RunFolder
from smallest import EXACT, TINY, few_trials, tiny

FOLD = "seed-0/fold-1"


def weights(run: RunFolder, folder: str = "recogniser") -> dict[str, Tensor]:
    return load_file(run / folder / "model.safetensors")


def same(one: RunFolder, other: RunFolder) -> bool:
    first, second = weights(one), weights(other)
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


def history(run: RunFolder) -> list[dict[str, float]]:
    text = (run / FOLD / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def command(listed: Path, protocol: Path, out: Path, *overrides: str, processes: int = 1) -> list[str]:
    torchrun = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m"]
    start = [sys.executable, "-m", *(torchrun if processes > 1 else []), "affetto", "finetune"]
    asked = ["--manifest", str(listed), "--protocol", str(protocol), "-o", str(out)]
    return [*start, *asked, *TINY, *overrides]


@pytest.fixture(scope="module")
def straight(corpus: Manifest, protocol: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run from beginning to end, with augmentation, dropout and enrolment."""
    settings = tiny(protocol, "train.epochs=3", "train.checkpoint_steps=2")
    return finetune(corpus, settings, tmp_path_factory.mktemp("straight") / "run")


def test_the_run_folder_holds_what_it_should(straight: RunFolder, corpus: Manifest) -> None:
    meta = json.loads((straight / "meta.json").read_text(encoding="utf-8"))
    assert meta["chosen_on"] == "dev"
    assert meta["speakers_seen_with_labels"] == {"1": ["f01", "f02", "m01", "m02"]}
    assert meta["manifest_sha256"] == corpus.sha256
    assert meta["unreadable"] == {}
    environment = json.loads((straight / "env.json").read_text(encoding="utf-8"))
    assert environment["manifest_sha256"] == corpus.sha256
    assert environment["roots"] == ["AFFETTO_ROOT_TOY"]
    assert "epochs: 3" in (straight / "config.yaml").read_text(encoding="utf-8")
    assert straight.done
    assert not (straight / FOLD / "state.pt").exists()
    assert [row["epoch"] for row in history(straight)] == [1, 2, 3]
    best = meta["choices"]["seed-0/fold-1"]
    scores = [row["score"] for row in history(straight)]
    assert scores[best["epoch"] - 1] == max(scores)
    dev = pd.read_parquet(straight / "predictions.parquet").query("part == 'dev'")
    recalls = [np.mean(group["label"] == truth) for truth, group in dev.groupby("truth")]
    assert best["dev_uar"] == pytest.approx(np.mean(recalls))  # of the head that was kept
    assert best["head"] in ("trained", "refitted")


def test_predictions_are_those_of_the_saved_recogniser(straight: RunFolder, corpus: Manifest) -> None:
    config = read_config(straight / "recogniser")
    assert config["id2label"]["1"] == "fear"
    seen = {"with_labels": ["f01", "f02", "m01", "m02"], "without_labels": [], "chosen_on": ["m03"]}
    assert config["speakers_seen"] == seen
    classifier = EmotionClassifier(ClassifierSettings(**config["classifier"])).eval()
    load_weights(straight / "recogniser", classifier)
    table = pd.read_parquet(straight / "predictions.parquet")
    assert table["part"].value_counts().to_dict() == {"dev": 10, "test": 10}
    assert set(table.loc[table["part"] == "test", "speaker"]) == {"f03"}
    paths = dict(zip(corpus.keys, corpus.paths, strict=True))
    for row in (0, 19):
        samples, _ = soundfile.read(paths[table["key"][row]], dtype="float32")
        features = classifier.front_end(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
        with torch.no_grad():
            expected = classifier.answers(classifier.embed(*features))[0]
        found = table.loc[row, [f"p_{label}" for label in config["labels"]]].to_numpy(np.float64)
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
        assert table["label"][row] == config["labels"][int(found.argmax())]
    assert "UAR on its dev speakers" in (straight / "recogniser" / "README.md").read_text(encoding="utf-8")


def test_enrolled_utterances_are_not_scored(straight: RunFolder) -> None:
    table = pd.read_parquet(straight / "enrolled.parquet")
    counts = table.groupby(["mix", "enrolment"])["key"].nunique().to_dict()
    assert counts["random", "0"] == 10
    assert counts["random", "5"] == 5
    assert counts["random", "all"] == 10
    assert counts["anger only", "10"] == 8  # the speaker has two angry ones
    assert set(table["speaker"]) == {"f03"}


def test_running_again_does_nothing(straight: RunFolder, corpus: Manifest, protocol: Path) -> None:
    files = {file: file.stat().st_mtime_ns for file in straight.path.rglob("*") if file.is_file()}
    settings = tiny(protocol, "train.epochs=3", "train.checkpoint_steps=2")
    assert finetune(corpus, settings, straight.path).done
    assert {file: file.stat().st_mtime_ns for file in straight.path.rglob("*") if file.is_file()} == files
    with pytest.raises(RunError, match="made with other settings"):
        finetune(corpus, tiny(protocol, "train.epochs=4"), straight.path)
    other = corpus.where(corpus.table["key"] != corpus.keys[0])
    with pytest.raises(RunError, match="manifest_sha256"):
        finetune(other, settings, straight.path)


def test_a_folder_in_use_is_refused(corpus: Manifest, protocol: Path, tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run").locked(), pytest.raises(RunError, match="another process is writing"):
        finetune(corpus, tiny(protocol), tmp_path / "run")


def test_kill_9_in_training_and_the_same_command_again(
    straight: RunFolder, listed: Path, corpus: Manifest, protocol: Path, tmp_path: Path
) -> None:
    asked = command(listed, protocol, tmp_path / "run", "train.checkpoint_steps=2")
    asked[asked.index("train.epochs=2")] = "train.epochs=3"
    state = tmp_path / "run" / FOLD / "state.pt"
    child = subprocess.Popen(asked, start_new_session=True)
    limit = time.monotonic() + 100
    while not state.exists():
        assert child.poll() is None, "it ended before its first checkpoint"
        assert time.monotonic() < limit
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    place = torch.load(state, weights_only=True)
    assert 0 < place["step"] < 15  # of 3 epochs of 5 steps: in the middle of training
    settings = tiny(protocol, "train.epochs=3", "train.checkpoint_steps=2")
    resumed = finetune(Manifest.read(listed), settings, tmp_path / "run")
    assert same(resumed, straight)
    assert history(resumed) == history(straight)
    predictions = [pd.read_parquet(run / "predictions.parquet") for run in (resumed, straight)]
    pd.testing.assert_frame_equal(*[table.drop(columns="file") for table in predictions])
    assert not list(resumed.path.rglob("*.part"))


def test_two_processes_are_one_on_the_same_batches(corpus: Manifest, protocol: Path, tmp_path: Path) -> None:
    # 39 training utterances in batches of 12: in the last batch one process has two and the other one.
    odd = corpus.where((corpus.table["key"] != corpus.keys[0]).to_numpy())
    odd.write(tmp_path / "odd.csv")
    one = finetune(odd, tiny(protocol, *EXACT, "train.batch_size=12"), tmp_path / "one")
    asked = command(
        tmp_path / "odd.csv", protocol, tmp_path / "two", *EXACT, "train.batch_size=6", processes=2
    )
    started = subprocess.run(asked, capture_output=True, text=True, timeout=110, check=False)
    assert started.returncode == 0, started.stderr[-2000:]
    two = RunFolder(tmp_path / "two")
    assert two.done
    for name, tensor in weights(one).items():
        if not name.startswith(("head", "temperature")):  # of the refitted head
            torch.testing.assert_close(weights(two)[name], tensor, atol=2e-4, rtol=2e-4, msg=name)
    # A head that is fitted again divides by small deviations of the vectors: its predictions are compared.
    predicted = [pd.read_parquet(run / "predictions.parquet").filter(like="p_") for run in (one, two)]
    np.testing.assert_allclose(*predicted, atol=0.01)
    for row, other in zip(history(one), history(two), strict=True):
        assert row["classification"] == pytest.approx(other["classification"], rel=1e-3)
    # Smaller batches on one process are something else, so the two did share.
    alone = finetune(odd, tiny(protocol, *EXACT, "train.batch_size=6"), tmp_path / "alone")
    name = "embedder.encoder.flatten.weight"
    assert (weights(alone)[name] - weights(one)[name]).abs().max() > 1e-3


@pytest.mark.parametrize("first_says", [True, False])
def test_the_first_process_decides_for_all(
    first_says: bool, corpus: Manifest, protocol: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a finished folder a process that went on alone would wait for the first one forever.
    worked = []
    other = SimpleNamespace(is_main_process=False)
    monkeypatch.setattr(module, "make_accelerator", lambda *_: other)
    monkeypatch.setattr(module, "broadcast_object_list", lambda given: [first_says])
    monkeypatch.setattr(module, "_work", lambda *given: worked.append(given))
    finetune(corpus, tiny(protocol), tmp_path / "run")
    assert len(worked) == first_says
    assert not (tmp_path / "run").exists()


def test_nothing_of_test_is_looked_at(
    straight: RunFolder, corpus: Manifest, protocol: Path, tmp_path: Path
) -> None:
    table = corpus.table.copy()
    generator = np.random.default_rng(0)
    for file, path, speaker in zip(table["file"], corpus.paths, table["speaker"], strict=True):
        samples, sample_rate = soundfile.read(path)
        if speaker == "f03":  # as long as before, so that batches stay what they were
            samples = generator.uniform(-0.5, 0.5, len(samples))
        (tmp_path / "audio" / file).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "audio" / file, samples, sample_rate)
    tested = table["speaker"] == "f03"
    table.loc[tested, "emotion"] = np.roll(table.loc[tested, "emotion"].to_numpy(), 1)
    poisoned = Manifest(table, {"toy": tmp_path / "audio"})
    settings = tiny(protocol, "train.epochs=3", "train.checkpoint_steps=2")
    other = finetune(poisoned, settings, tmp_path / "run")
    assert same(other, straight)
    choices = [json.loads((run / "meta.json").read_text("utf-8"))["choices"] for run in (other, straight)]
    assert choices[0] == choices[1]
    tables = [pd.read_parquet(run / "predictions.parquet") for run in (other, straight)]
    dev, test = (
        [table[table["part"] == part].reset_index(drop=True).drop(columns="file") for table in tables]
        for part in ("dev", "test")
    )
    pd.testing.assert_frame_equal(*dev)
    assert not np.allclose(test[0]["confidence"], test[1]["confidence"])


def test_labels_beyond_the_fraction_are_not_looked_at(
    corpus: Manifest, protocol: Path, tmp_path: Path
) -> None:
    settings = finetune_settings(
        protocol=str(protocol), encoder="functionals", label_fraction=0.5, enrolment=False
    )
    train = np.flatnonzero(corpus.table["speaker"].isin(["f01", "f02", "m01", "m02"]))
    truth = np.unique(corpus.table["emotion"].astype(str), return_inverse=True)[1]
    used = labelled_part(train, truth, 0.5, seed=0)
    assert len(used) == 20
    shortened = corpus.where(
        ~corpus.table["key"].isin([corpus.keys[row] for row in set(train) - set(used)]).to_numpy()
    )
    whole = finetune(corpus, settings, tmp_path / "whole")
    part = finetune(shortened, settings.model_copy(update={"label_fraction": 1.0}), tmp_path / "part")
    one, other = weights(whole), weights(part)
    for name in ("head.support", "head.coefficients", "head.bias", "standardise.mean"):
        # libsvm stops at a tolerance of 1e-3: rows in another order may give slightly other coefficients.
        torch.testing.assert_close(one[name], other[name], atol=5e-3, rtol=5e-3)
    assert json.loads((whole / "meta.json").read_text("utf-8"))["label_fraction"] == 0.5


def test_several_seeds_give_several_runs_and_the_best_is_kept(
    corpus: Manifest, protocol: Path, tmp_path: Path
) -> None:
    settings = tiny(protocol, "train.epochs=1", "seeds=[0, 1]", "enrolment=false", "loss.class_weights=true")
    run = finetune(corpus, settings, tmp_path / "run")
    table = pd.read_parquet(run / "predictions.parquet")
    assert table.groupby("seed")["key"].nunique().to_dict() == {0: 20, 1: 20}
    choices = json.loads((run / "meta.json").read_text("utf-8"))["choices"]
    best = max(choices, key=lambda name: choices[name]["dev_uar"])
    kept, chosen = weights(run), weights(run, f"{best}/recogniser")
    assert all(torch.equal(kept[name], chosen[name]) for name in kept)
    assert not torch.equal(*[weights(run, f"{name}/recogniser")["head.linear.weight"] for name in choices])


def test_a_bad_recording_is_listed_and_does_not_stop_the_run(
    corpus: Manifest, protocol: Path, tmp_path: Path
) -> None:
    for file, path in zip(corpus.table["file"], corpus.paths, strict=True):
        (tmp_path / "audio" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "audio" / file).write_bytes(path.read_bytes())
    bad = {corpus.keys[3]: b"not audio", corpus.keys[25]: b""}
    for key, content in bad.items():
        file = corpus.table.loc[corpus.table["key"] == key, "file"].item()
        (tmp_path / "audio" / file).write_bytes(content)
    settings = finetune_settings(protocol=str(protocol), encoder="functionals", enrolment=False)
    run = finetune(Manifest(corpus.table, {"toy": tmp_path / "audio"}), settings, tmp_path / "run")
    unreadable = json.loads((run / "meta.json").read_text("utf-8"))["unreadable"]
    assert set(unreadable) == set(bad)
    assert "empty" in unreadable[corpus.keys[25]]
    assert not set(pd.read_parquet(run / "predictions.parquet")["key"]) & set(bad)


def test_copies_are_learned_from_and_nothing_else_changes(
    corpus: Manifest, protocol: Path, tmp_path: Path
) -> None:
    def run(name: str, *overrides: str) -> RunFolder:
        settings = finetune_settings(overrides=overrides, protocol=str(protocol), encoder="functionals")
        with few_trials():
            return finetune(corpus, settings, tmp_path / name)

    plain, copied = run("plain"), run("copied", "copies=2")
    for name in ("predictions.parquet", "enrolled.parquet"):
        one, other = (pd.read_parquet(each / name) for each in (plain, copied))
        kept = ["key", "truth", *(["part"] if name == "predictions.parquet" else ["mix", "enrolment"])]
        pd.testing.assert_frame_equal(one[kept], other[kept])
        assert not np.allclose(one["confidence"], other["confidence"])
    # Copies that are the recordings themselves teach the mean and the deviation nothing new.
    alike = run("alike", "copies=2", "augment.room=0", "augment.equalise_db=0", "augment.telephone=0",
                "augment.clip=0", "augment.noise_probability=0", "augment.speed=null",
                "augment.gain_db=1e-9", "enrolment=false")  # fmt: skip
    for name in ("standardise.mean", "standardise.deviation"):
        torch.testing.assert_close(weights(alike)[name], weights(plain)[name], rtol=1e-4, atol=1e-4)
        assert not torch.allclose(weights(copied)[name], weights(plain)[name], rtol=1e-2)


def test_a_speaker_encoder_beside_others_is_for_enrolled_speakers(
    corpus: Manifest, protocol: Path, tmp_path: Path
) -> None:
    recipe = "ge2e + filterbank"
    settings = finetune_settings(
        protocol=str(protocol), encoder=recipe, overrides=("published_weights=false",)
    )
    with few_trials():
        found = weights(finetune(corpus, settings, tmp_path / "run"))
    speaker = 3 * 256  # the means of its layers come first
    assert not found["head.linear.weight"][:, :speaker].any()
    assert found["head.linear.weight"][:, speaker:].abs().max() > 1e-3
    assert found["enrolment.head.linear.weight"][:, :speaker].abs().max() > 1e-3


def test_a_probe_leaves_the_published_encoder_as_it_is(
    corpus: Manifest, protocol: Path, tmp_path: Path
) -> None:
    settings = finetune_settings(
        protocol=str(protocol),
        encoder="ge2e",
        frozen=True,
        overrides=("train.epochs=2", "enrolment=false"),
    )
    run = finetune(corpus, settings, tmp_path / "run")
    found, published = weights(run), published_weights()
    assert torch.equal(found["embedder.encoder.lstms.1.weight_ih_l0"], published["lstm.weight_ih_l1"])
    assert found["embedder.layer_weights"].abs().max() > 1e-4  # this did learn
    assert found["head.linear.weight"].shape == (5, 256)
    meta = json.loads((run / "meta.json").read_text("utf-8"))
    assert meta["weights_from_elsewhere"]


def test_votes_change_what_is_learned(corpus: Manifest, protocol: Path, tmp_path: Path) -> None:
    table = corpus.table.copy()
    for label in ("anger", "fear", "happiness", "neutral", "sadness"):
        table[f"votes_{label}"] = 3.0 * (table["emotion"] == label) + 1.0 * (label == "neutral")
    voted = Manifest(table, corpus.roots)
    runs = [
        finetune(
            voted, tiny(protocol, *EXACT, "train.epochs=1", f"loss.vote_share={share}"), tmp_path / share
        )
        for share in ("0.0", "0.8")
    ]
    assert not same(*runs)
    table = pd.read_parquet(runs[1] / "predictions.parquet")
    neutral = [
        pd.read_parquet(run / "predictions.parquet").query("part == 'test'")["p_neutral"].mean()
        for run in runs
    ]
    assert neutral[1] > neutral[0]  # votes said neutral more often
    assert "votes_anger" in table


@pytest.mark.parametrize("encoder", ["functionals", "d-vector"])
def test_baselines_are_what_scikit_learn_says(
    encoder: str, corpus: Manifest, protocol: Path, tmp_path: Path
) -> None:
    run = finetune(
        corpus,
        finetune_settings(protocol=str(protocol), encoder=encoder),
        tmp_path / "run",
    )
    config = read_config(run / "recogniser")
    classifier = EmotionClassifier(ClassifierSettings(**config["classifier"])).eval()
    load_weights(run / "recogniser", classifier)
    table = pd.read_parquet(run / "predictions.parquet").query("part == 'dev'")
    score = np.mean([np.mean(group["label"] == truth) for truth, group in table.groupby("truth")])
    assert score == pytest.approx(config["dev_uar"])
    assert score > 0.2
    assert "strength" in json.loads((run / "meta.json").read_text("utf-8"))["choices"]["seed-0/fold-1"]
    assert classifier.enrolment is not None


def test_a_training_part_of_one_emotion_is_refused(corpus: Manifest, tmp_path: Path) -> None:
    angry = corpus.where(corpus.table["emotion"] == "anger")
    for protocol, words in (("speaker-kfold", "are anger"), ("leave-one-speaker-out", "are anger")):
        settings = finetune_settings(protocol=protocol, encoder="functionals")
        with pytest.raises(ProtocolError, match=f"{words}; at least two emotions are needed"):
            finetune(angry, settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("encoder", "told"), [("tdnn", True), ("functionals", False)])
def test_a_fixed_network_that_was_never_trained_is_noted(
    encoder: str, told: bool, listed: Path, protocol: Path, tmp_path: Path
) -> None:
    asked = ["finetune", "--manifest", str(listed), "--protocol", str(protocol), "-o", str(tmp_path / "run")]
    shape = ["encoder.width=8", "encoder.blocks=1"] if told else []
    words = ["--encoder", encoder, "--head", "logistic", "--no-enrolment", *shape]
    done = CliRunner().invoke(app, [*asked, *words], catch_exceptions=False)
    assert ("note: tdnn has no weights of its own yet" in done.output) == told


def test_a_fold_that_was_stopped_has_one_row_in_its_log(
    corpus: Manifest, protocol: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    chosen = finetune_settings(protocol=str(protocol), encoder="functionals", overrides=("enrolment=false",))
    with monkeypatch.context() as patch:
        patch.setattr(module, "save_recogniser", stop)
        with pytest.raises(KeyboardInterrupt) as stopped:
            finetune(corpus, chosen, tmp_path / "run")
    assert stopped.value.__notes__ == [
        f"what is done is kept in {tmp_path / 'run'}: the same command goes on from there"
    ]
    run = finetune(corpus, chosen, tmp_path / "run")
    assert len((run / FOLD / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) == 1
