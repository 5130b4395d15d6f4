"""Recognisers that learn from words: trained, measured, asked with other words, searched."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from affetto.cli import app
from affetto.corpora.manifest import Manifest
from affetto.errors import CheckpointError, ConfigError, ManifestError, RunError
from affetto.finetuning.settings import finetune_settings
from affetto.inference import Recogniser
from affetto.language import Index, index, language_settings, pretrain_language, with_prompts
from affetto.language.run import LanguageRunSettings
from affetto.language.search import nearest, text_encoder
from affetto.merging import merge_parts
from affetto.models.checkpoint import read_config
from affetto.models.heads import LanguageHead
from affetto.runs import RunFolder
from smallest import EXACT, TINY, few_trials
from text_models import save_tiny_text

FOLD = "seed-0/fold-1"
SMALL = (*TINY, "language.width=8", "language.hidden=8", "enrolment=false")
WORDS = {"angry": "anger", "afraid": "fear", "happy": "happiness", "neutral": "neutral", "sad": "sadness"}
PROMPTS = ["a furious shout", "a bored voice", "a sad voice"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_text(tmp_path_factory.mktemp("text") / "model")


def settings(protocol: Path, text: Path | None, *overrides: str) -> LanguageRunSettings:
    words = ("language.text=null",) if text is None else (f"language.text.model={text}",)
    return language_settings(protocol=str(protocol), overrides=(*SMALL, *words, *overrides))


@pytest.fixture(scope="module")
def straight(
    corpus: Manifest, protocol: Path, text: Path, tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    chosen = settings(protocol, text, "train.epochs=3")
    return pretrain_language(corpus, chosen, tmp_path_factory.mktemp("straight") / "run")


@pytest.fixture(scope="module")
def recogniser(straight: RunFolder) -> Recogniser:
    return Recogniser.from_pretrained(straight / "recogniser")


@pytest.fixture(scope="module")
def voices(corpus: Manifest) -> list[Path]:
    return [corpus.path(row) for row in range(6)]


@pytest.mark.parametrize(
    "overrides",
    [
        ("clap.target=ml",),
        ("clap.target=sl", "clap.gender=actor"),
        ("clap.target=hard", "clap.words={anger: calm, fear: bored}", "augment.mixup=0.3"),
        ('language.text.templates=["a {gender} speaker sounds {emotion}", "a {emotion} voice"]',),
    ],
    ids=["ml", "other genders", "other words", "templates"],
)
def test_every_way_learns_and_leaves_a_recogniser(
    corpus: Manifest, protocol: Path, text: Path, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    actors = Manifest(corpus.table.assign(actor=corpus.table["gender"].iloc[::-1].tolist()), corpus.roots)
    run = pretrain_language(actors, settings(protocol, text, *overrides), tmp_path / "run")
    rows = [json.loads(line) for line in (run / FOLD / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["clap"] < rows[0]["clap"]
    table = pd.read_parquet(run / "predictions.parquet")
    assert np.allclose(table.filter(regex="^p_").sum(axis=1), 1)
    again = Recogniser.from_pretrained(run / "recogniser")
    assert len(again.predict(corpus.path(0))) == 5


def test_class_vectors_are_the_same_network_without_words(
    corpus: Manifest, protocol: Path, tmp_path: Path
) -> None:
    chosen = settings(protocol, None, "loss.label_smoothing=0.2")
    run = pretrain_language(corpus, chosen, tmp_path / "run")
    assert "classification" in (run / FOLD / "metrics.jsonl").read_text()
    assert len(Recogniser.from_pretrained(run / "recogniser").predict(corpus.path(0))) == 5
    with pytest.raises(ConfigError, match="no words"):
        with_prompts(run / "recogniser", PROMPTS)
    with pytest.raises(ConfigError, match="no words"):
        index(run / "recogniser", [corpus.path(0)], tmp_path / "index")


def test_the_same_command_again_does_nothing(
    corpus: Manifest, protocol: Path, text: Path, straight: RunFolder
) -> None:
    before = (straight / "DONE").stat().st_mtime_ns
    pretrain_language(corpus, settings(protocol, text, "train.epochs=3"), straight.path)
    assert (straight / "DONE").stat().st_mtime_ns == before


def test_a_text_encoder_that_is_trained_too_goes_with_its_recogniser(
    corpus: Manifest, protocol: Path, tmp_path: Path
) -> None:
    own = save_tiny_text(tmp_path / "own")
    chosen = settings(protocol, own, "language.text.frozen=false", "clap.target=sl")
    run = pretrain_language(corpus, chosen, tmp_path / "run")
    rows = [json.loads(line) for line in (run / FOLD / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["clap"] < rows[0]["clap"]
    shutil.rmtree(own)
    moved = (run.path / "recogniser").rename(tmp_path / "moved")
    spoken = [f"the speaker sounds {word}" for word in ("angry", "afraid", "happy", "neutral", "sad")]
    plain = {row["label"]: row["score"] for row in Recogniser.from_pretrained(moved).predict(corpus.path(0))}
    for row in with_prompts(moved, spoken).predict(corpus.path(0)):
        label = sorted(plain)[spoken.index(row["label"])]
        assert row["score"] == pytest.approx(plain[label], abs=1e-5)


def test_its_labels_stay_what_they_were_when_they_are_prompts(
    straight: RunFolder, recogniser: Recogniser, voices: list[Path]
) -> None:
    words = {f"the speaker sounds {word}": label for word, label in WORDS.items()}
    asked = with_prompts(straight.path, list(words))
    for voice in voices:
        plain = {row["label"]: row["score"] for row in recogniser.predict(voice)}
        for row in asked.predict(voice):
            assert row["score"] == pytest.approx(plain[words[row["label"]]], abs=1e-5)


def test_prompts_on_the_command_line(straight: RunFolder, voices: list[Path], tmp_path: Path) -> None:
    line = ["predict", *map(str, voices), "-m", str(straight / "recogniser"), "--prompts", *PROMPTS]
    done = CliRunner().invoke(app, [*line, "-o", str(tmp_path / "out.csv")])
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "out.csv")
    assert set(table["label"]) <= set(PROMPTS)
    assert len(table) == len(voices)


@pytest.mark.parametrize("prompts", [["one"], ["one", "one"], ["", "two"], ["sad " * 9999, "two"]])
def test_prompts_that_ask_nothing_are_refused(straight: RunFolder, prompts: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"texts|text"):
        with_prompts(straight.path, prompts)


def test_a_text_encoder_that_is_gone_is_missed_by_prompts_alone(
    straight: RunFolder, voices: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "recogniser"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((straight / "recogniser" / name).read_bytes())
    config = read_config(folder)
    config["classifier"]["language"]["text"]["model"] = str(tmp_path / "gone")
    (folder / "config.json").write_text(json.dumps(config))
    moved = Recogniser.from_pretrained(folder)
    assert moved.predict(voices[0])
    with pytest.raises(CheckpointError, match="name its folder"):
        with_prompts(folder, PROMPTS)


def test_what_is_near_is_found(straight: RunFolder, voices: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"not audio")
    folder = tmp_path / "index"
    outcome = index(straight / "recogniser", [voices[0], broken, *voices[1:]], folder)
    assert (outcome.clips, outcome.failed) == (7, 1)
    opened = Index(folder)
    [hits] = opened.search(["a furious shout"], count=3)
    recogniser = Recogniser.from_pretrained(straight / "recogniser")
    head = recogniser.classifier.head
    assert isinstance(head, LanguageHead)
    with torch.no_grad():
        vectors = recogniser.embed(voices)
        audio = head.project_audio(vectors[:, : recogniser.classifier.embedder.dim])
        encoder = text_encoder(straight / "recogniser", head)
        wanted = head.project_texts(encoder(["a furious shout"]))[0]
    scores = (audio @ wanted).numpy()
    order = np.argsort(-scores)[:3]
    assert [hit.file for hit in hits] == [str(voices[place]) for place in order]
    assert np.allclose([hit.score for hit in hits], scores[order], atol=1e-5)
    assert index(straight / "recogniser", voices, folder).finished
    done = CliRunner().invoke(app, ["search", "a sad voice", "-i", str(folder), "-k", "2"])
    assert done.exit_code == 0
    assert len(done.output.splitlines()) == 2


def test_the_indexes_of_shards_make_the_one_of_all(
    straight: RunFolder, voices: list[Path], tmp_path: Path
) -> None:
    index(straight / "recogniser", voices, tmp_path / "whole")
    parts = [tmp_path / f"part-{number}" for number in (1, 2)]
    for number, part in enumerate(parts, 1):
        index(straight / "recogniser", voices, part, shard=f"{number}/2")
        with pytest.raises(RunError, match=f"is shard {number}/2, and all rows were asked for"):
            index(straight / "recogniser", voices, part)
    merge_parts(parts, tmp_path / "merged")
    whole, merged = (
        {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        for folder in (tmp_path / "whole", tmp_path / "merged")
    )
    assert {name: content for name, content in whole.items() if name.suffix != ".lock"} == merged


def test_an_index_keeps_to_one_recogniser(
    corpus: Manifest, protocol: Path, text: Path, straight: RunFolder, voices: list[Path], tmp_path: Path
) -> None:
    index(straight / "recogniser", voices, tmp_path / "index")
    other = pretrain_language(corpus, settings(protocol, text, "train.epochs=1"), tmp_path / "other")
    with pytest.raises(RunError, match="another recogniser"):
        index(other / "recogniser", voices, tmp_path / "index")
    with pytest.raises(CheckpointError, match="affetto index"):
        Index(tmp_path)


def test_nearest_is_what_sorting_gives() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(50, 4)).astype(np.float32)
    wanted = vectors[7]
    for count in (1, 5, 50, 80):
        places, scores = nearest(vectors, wanted, count)
        order = np.argsort(-(vectors @ wanted))[:count]
        assert places.tolist() == order.tolist()
        assert np.allclose(scores, (vectors @ wanted)[order])
    assert len(nearest(vectors[:0], wanted, 3)[0]) == 0


def test_rows_without_a_gender_are_named(
    corpus: Manifest, protocol: Path, text: Path, tmp_path: Path
) -> None:
    table = corpus.table.assign(gender=corpus.table["gender"].where(corpus.table["speaker"] != "f01"))
    partly = Manifest(table, corpus.roots)
    with pytest.raises(ManifestError, match=r"10 of 40 rows have no gender.*clap.target=emo"):
        pretrain_language(partly, settings(protocol, text, "clap.target=sl"), tmp_path / "sl")
    assert pretrain_language(partly, settings(protocol, text, "clap.target=emo"), tmp_path / "emo").done


def test_words_of_no_class_are_refused(corpus: Manifest, protocol: Path, text: Path, tmp_path: Path) -> None:
    chosen = settings(protocol, text, "clap.words={feer: afraid}")
    with pytest.raises(ConfigError, match=r"unknown emotion 'feer'.*did you mean 'fear'"):
        pretrain_language(corpus, chosen, tmp_path / "run")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("loss.label_smoothing=0.2",), "loss"),
        (("clap.alpha=0.8",), "alpha"),
        (("clap.gender=actor",), "genders"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(
    protocol: Path, text: Path, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(protocol, text, *overrides)


def test_fixed_vectors_learn_words_too(corpus: Manifest, protocol: Path, text: Path, tmp_path: Path) -> None:
    """Their recogniser hears files as training heard vectors; what cannot change vectors is refused."""
    given = {"protocol": str(protocol), "encoder": "functionals", "enrolment": False}
    words = {"text": {"model": str(text)}}
    overrides = ("train.epochs=2", "augment.mixup=0.3")
    run = pretrain_language(
        corpus, language_settings(overrides=overrides, language=words, **given), tmp_path / "run"
    )
    table = pd.read_parquet(run / "predictions.parquet")
    row = table[table["part"] == "test"].iloc[0]
    scores = Recogniser.from_pretrained(run / "recogniser").predict(corpus.roots["toy"] / row["file"])
    assert {each["label"]: each["score"] for each in scores} == pytest.approx(
        {name.removeprefix("p_"): row[name] for name in table if name.startswith("p_")}, abs=2e-3
    )
    for wrong, message in [
        ("views=2", "copies=2"),
        ("augment.gain_db=3", "copies=2"),
        ("pretrained=x", "start from"),
    ]:
        with pytest.raises(ConfigError, match=message):
            language_settings(overrides=(wrong,), language=words, **given)


def test_texts_know_the_speakers_that_are_enrolled(
    corpus: Manifest, protocol: Path, text: Path, tmp_path: Path
) -> None:
    """The head that learned from texts scores without the offset of the speaker, prompts as classes."""
    chosen = language_settings(
        overrides=("train.epochs=2",),
        protocol=str(protocol),
        encoder="functionals",
        language={"text": {"model": str(text)}},
    )
    with few_trials():
        run = pretrain_language(corpus, chosen, tmp_path / "run")
    assert len(pd.read_parquet(run / "enrolled.parquet"))
    words = {"the speaker sounds " + word: label for word, label in WORDS.items()}
    plain, asked = Recogniser.from_pretrained(run / "recogniser"), with_prompts(run.path, list(words))
    own = [path for path, name in zip(corpus.paths, corpus.table["speaker"], strict=True) if name == "f01"]
    enrolled = plain.enrol(own[:6])
    assert torch.equal(asked.enrol(own[:6]).offset, enrolled.offset)
    for voice in own[6:8]:
        known = {row["label"]: row["score"] for row in plain.from_file(voice, enrolment=enrolled)}
        before = {row["label"]: row["score"] for row in plain.from_file(voice)}
        assert known != pytest.approx(before, abs=1e-4)
        for row in asked.from_file(voice, enrolment=enrolled):
            assert row["score"] == pytest.approx(known[words[row["label"]]], abs=1e-5)


def test_a_long_recording_is_a_cosine_too(straight: RunFolder, voices: list[Path], tmp_path: Path) -> None:
    import soundfile

    from affetto.audio import decode

    voice = np.concatenate([decode(voices[0]), np.zeros(400, np.float32), 0.1 * decode(voices[3])])
    soundfile.write(tmp_path / "long.wav", np.resize(voice, 70 * 16_000), 16_000)
    index(straight / "recogniser", [tmp_path / "long.wav", voices[0]], tmp_path / "index")
    norms = np.linalg.norm(np.load(tmp_path / "index" / "vectors.npy"), axis=1)
    assert norms == pytest.approx([1, 1], abs=1e-5)


def test_another_text_encoder_than_that_of_training_is_refused(
    corpus: Manifest, protocol: Path, tmp_path: Path
) -> None:
    own = save_tiny_text(tmp_path / "own")
    run = pretrain_language(corpus, settings(protocol, own), tmp_path / "plain")
    asked = with_prompts(run.path, PROMPTS[:2])
    assert asked.config["id2label"] == {0: PROMPTS[0], 1: PROMPTS[1]}
    from safetensors.torch import load_file, save_file

    tensors = {name: each + 0.1 for name, each in load_file(own / "model.safetensors").items()}
    save_file(tensors, own / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="not the text encoder"):
        with_prompts(run.path, PROMPTS)


def test_genders_of_other_rows_are_not_needed(
    corpus: Manifest, protocol: Path, text: Path, tmp_path: Path
) -> None:
    table = corpus.table.assign(gender=corpus.table["gender"].where(corpus.table["speaker"] != "f03"))
    chosen = settings(protocol, text, "clap.target=sl", "train.epochs=1")
    assert pretrain_language(Manifest(table, corpus.roots), chosen, tmp_path / "run").done


def test_settings_that_contradict_each_other_are_refused(protocol: Path) -> None:
    with pytest.raises(ConfigError, match="head=language"):
        finetune_settings(protocol=str(protocol), overrides=("clap.target=sl",))
    with pytest.raises(ConfigError, match="target, alpha"):
        settings(protocol, None, "clap.target=sl", "clap.alpha=0.8")


def test_corpora_with_other_classes_meet_in_one_recogniser(
    corpus: Manifest, text: Path, tmp_path: Path
) -> None:
    """Trained on both, it knows the classes of both, and is asked for those of one."""
    speakers = corpus.table["speaker"]
    table = corpus.table.assign(corpus=["one" if name < "f03" else "two" for name in speakers])
    classes = {"one": ["anger", "neutral", "sadness"], "two": ["fear", "happiness", "neutral"]}
    kept = [emotion in classes[name] for emotion, name in zip(table["emotion"], table["corpus"], strict=True)]
    roots = {"one": corpus.roots["toy"], "two": corpus.roots["toy"]}
    both = Manifest(table[kept].reset_index(drop=True), roots)
    given = {"protocol": "speaker-kfold", "encoder": "functionals", "enrolment": False}
    words = {"text": {"model": str(text)}}
    run = pretrain_language(
        both, language_settings(overrides=("train.epochs=2",), language=words, **given), tmp_path / "run"
    )
    recogniser = Recogniser.from_pretrained(run / "recogniser")
    assert recogniser.labels == sorted({*classes["one"], *classes["two"]})
    prompts = [f"the speaker sounds {word}" for word in ("afraid", "happy", "neutral")]
    plain = {each["label"]: each["score"] for each in recogniser.predict(both.path(0))}
    asked = {each["label"]: each["score"] for each in with_prompts(run.path, prompts).predict(both.path(0))}
    shares = np.array([plain[label] for label in classes["two"]])
    assert [asked[prompt] for prompt in prompts] == pytest.approx((shares / shares.sum()).tolist(), abs=1e-4)


def test_pretrain_clap_on_the_command_line(listed: Path, protocol: Path, text: Path, tmp_path: Path) -> None:
    line = ["pretrain", "--manifest", str(listed), "--objective", "clap"]
    out = tmp_path / "run"
    asked = ["--target", "sl", "--text", str(text), "--protocol", str(protocol), "-o", str(out)]
    runner = CliRunner()
    done = runner.invoke(app, [*line, *asked, *SMALL], catch_exceptions=False)
    assert "--prompts" in done.output
    assert read_config(out / "recogniser")["classifier"]["head"] == "language"
    for wrong, message in [
        (["--objective", "clap"], "--protocol"),
        (["--objective", "clap", "--groups", "x", "--protocol", "p"], "--groups"),
        (["--target", "sl"], "--objective clap"),
    ]:
        failed = runner.invoke(
            app, ["pretrain", "--manifest", str(listed), "-o", str(tmp_path / "x"), *wrong]
        )
        assert message in str(failed.exception)


def test_two_processes_are_one(listed: Path, protocol: Path, text: Path, tmp_path: Path) -> None:
    words = [
        *SMALL,
        *EXACT,
        "head=language",
        f"language.text.model={text}",
        "clap.target=sl",
        "train.epochs=1",
    ]
    asked = ["finetune", "--manifest", str(listed), "--protocol", str(protocol)]
    alone = [*asked, "-o", str(tmp_path / "1"), *words, "train.batch_size=8"]
    assert CliRunner().invoke(app, alone, catch_exceptions=False).exit_code == 0
    start = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "affetto",
    ]
    both = [*asked, "-o", str(tmp_path / "2"), *words, "train.batch_size=4"]
    subprocess.run([*start, *both], check=True, capture_output=True)
    one, two = (
        Recogniser.from_pretrained(tmp_path / name / "recogniser").classifier.state_dict()
        for name in ("1", "2")
    )
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=1e-3, atol=1e-4)


def test_an_index_that_cannot_be_written_is_named(
    straight: RunFolder, voices: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"cannot write .*recogniser: .*name another folder"):
        index(straight / "recogniser", voices, tmp_path / "file" / "index")
