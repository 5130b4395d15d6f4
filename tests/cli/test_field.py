"""What people have: tables of other programs, odd names and labels, too few of everything. Verb by verb."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from affetto.cli import app
from affetto.corpora import toy
from affetto.corpora.manifest import Manifest
from affetto.errors import AffettoError

FINETUNE = ("--protocol", "speaker-kfold", "--encoder", "functionals", "--no-enrolment")
NAMES = [
    "two\nlines",
    'the "a"',
    "-o",
    "a, b",
    "x" * 240,
    " a ",
    "\u4f60\u597d \u043c\u0438\u0440",
    "100%s{}",
    "a;b#1\t",
]
LABELS = [
    "sehr w\u00fctend",
    "\u6012\u308a",
    "\u0440\u0430\u0434\u043e\u0441\u0442\u044c",
    'a, "b"',
    "no/one",
]


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, Exception):
        raise result.exception
    return result.output


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AFFETTO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return toy.write(tmp_path_factory.mktemp("toy"), speakers=6, sentences=1, takes=1)


@pytest.fixture(scope="module")
def trained(corpus: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on labels in other scripts, with spaces and quotation marks, by speakers called 001 to 006."""
    folder = tmp_path_factory.mktemp("trained")
    named = {
        name: place
        for name, places in (("emotion", LABELS), ("speaker", [f"00{n}" for n in range(1, 7)]))
        for place in [dict(zip(sorted(corpus.table[name].unique()), places, strict=True))]
    }
    table = corpus.table.assign(**{name: corpus.table[name].map(places) for name, places in named.items()})
    Manifest(table, corpus.roots).write(folder / "m.csv")
    run("finetune", "--manifest", folder / "m.csv", *FINETUNE, "-o", folder / "run")
    return folder / "run"


@pytest.mark.parametrize(
    ("encoding", "options"),
    [("utf-8-sig", {"sep": ";", "decimal": ","}), ("utf-8", {"lineterminator": "\r\n"})],
)
def test_tables_of_other_programs_are_read_by_every_verb(
    encoding: str, options: dict[str, Any], corpus: Manifest, tmp_path: Path
) -> None:
    corpus.write(tmp_path / "m.csv")
    table = corpus.table.assign(start=0.1, end=0.5)
    (tmp_path / "m.csv").write_text(table.to_csv(index=False, **options), encoding=encoding, newline="")
    assert run("manifest", "validate", tmp_path / "m.csv") == "30 rows, 0 problems\n"
    run("predict", tmp_path / "m.csv", "--any-sound", "-o", tmp_path / "p.csv")
    predicted = pd.read_csv(tmp_path / "p.csv")
    assert (predicted["start"] == 0.1).all()
    assert (predicted["end"] == 0.5).all()
    assert predicted["error"].isna().all()
    run("embed", tmp_path / "m.csv", "-e", "functionals", "-o", tmp_path / "v.parquet")
    assert pd.read_parquet(tmp_path / "v.parquet")["key"].tolist() == corpus.keys
    run("finetune", "--manifest", tmp_path / "m.csv", *FINETUNE, "-o", tmp_path / "run")
    tested = pd.read_parquet(tmp_path / "run" / "predictions.parquet").query("part == 'test'")
    assert sorted(tested["key"]) == sorted(corpus.keys)


@pytest.mark.parametrize("verb", ["manifest validate", "predict", "embed", "annotate speakers", "finetune"])
def test_repeated_rows_and_latin_letters_are_refused_by_every_verb(
    verb: str, corpus: Manifest, tmp_path: Path
) -> None:
    file = tmp_path / "m.csv"
    out = (
        []
        if verb == "manifest validate"
        else ["-o", tmp_path / f"out.{'parquet' if verb == 'embed' else 'csv'}"]
    )
    words = [*verb.split(), *(FINETUNE if verb == "finetune" else ()), *out]
    words += ["--manifest", file] if verb == "finetune" else [file]
    twice = corpus.table.drop(columns="key")[["file", "speaker", "emotion"]]
    for content, message in (
        (
            pd.concat([twice, twice[:2]]).to_csv(index=False).encode(),
            "keys occur twice: .*leave repeated rows out",
        ),
        (
            twice.assign(text="w\u00fctend").to_csv(index=False).encode("latin-1"),
            "it is not UTF-8; save it again",
        ),
    ):
        file.write_bytes(content)
        with pytest.raises(AffettoError, match=f"m.csv: .*{message}"):
            run(*words)
    assert os.listdir(tmp_path) == ["m.csv"]


def test_odd_names_go_through_every_verb(corpus: Manifest, trained: Path, tmp_path: Path) -> None:
    names = [f"{name}.flac" for name in NAMES]
    (tmp_path / "odd").mkdir()
    for name, path in zip(names, corpus.paths, strict=False):
        (tmp_path / "odd" / name).write_bytes(path.read_bytes())
    run("scan", "table", tmp_path / "odd", "-o", tmp_path / "m.csv")
    manifest = Manifest.read(tmp_path / "m.csv")
    assert sorted(manifest.table["file"]) == sorted(names)
    assert run("manifest", "validate", tmp_path / "m.csv") == f"{len(names)} rows, 0 problems\n"
    for source, suffix in ((tmp_path / "odd", "jsonl"), (tmp_path / "m.csv", "parquet")):
        out = tmp_path / f"p.{suffix}"
        run("predict", source, "-m", trained, "--any-sound", "-o", out, "--page", tmp_path / "page.html")
        table = pd.read_json(out, lines=True) if suffix == "jsonl" else pd.read_parquet(out)
        assert sorted(Path(file).name for file in table["file"]) == sorted(names)
        assert table["error"].isna().all()
    run("predict", tmp_path / "odd", "-m", trained, "--any-sound", "-o", tmp_path / "p.rttm")
    assert len((tmp_path / "p.rttm").read_text(encoding="utf-8").splitlines()) == len(names)
    bad = tmp_path / "odd" / os.fsdecode(b"bad\xff.flac")
    bad.write_bytes(corpus.path(0).read_bytes())
    said = run("scan", "table", tmp_path / "odd", "-o", tmp_path / "again.csv")
    assert "its name is not UTF-8; rename it" in said
    assert f"{len(names)} utterances, 0 speakers, 0 emotions, 1 left out" in said


def test_labels_in_other_scripts_go_through_every_verb(
    corpus: Manifest, trained: Path, tmp_path: Path
) -> None:
    tested = pd.read_parquet(trained / "predictions.parquet")
    assert set(tested["truth"]) == set(LABELS)
    assert set(tested["speaker"]) == {f"00{number}" for number in range(1, 7)}
    run("evaluate", trained)
    sound = corpus.path(0)
    for suffix in ("csv", "TextGrid", "eaf", "srt", "txt", "json"):
        run("predict", sound, "-m", trained, "--any-sound", "-o", tmp_path / f"p.{suffix}")
    (row,) = pd.read_csv(tmp_path / "p.csv").to_dict("records")
    assert row["label"] in LABELS
    assert row[f"p_{row['label']}"] == row["confidence"]
    words = (
        "--any-sound",
        "--classes",
        *LABELS[:2],
        "--prior",
        f"{LABELS[1]}=0.3",
        "-o",
        tmp_path / "two.csv",
    )
    run("predict", sound, "-m", trained, *words)
    assert pd.read_csv(tmp_path / "two.csv")["label"][0] in LABELS[:2]


def test_a_recogniser_that_may_not_be_written_or_is_damaged(
    corpus: Manifest, trained: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "recogniser"
    folder.mkdir()
    for file in (trained / "recogniser").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
        (folder / file.name).chmod(0o444)
    folder.chmod(0o555)
    run("predict", corpus.path(0), "-m", folder, "--any-sound", "-o", tmp_path / "p.csv")
    folder.chmod(0o755)
    (folder / "model.safetensors").chmod(0o644)
    tensors = load_file(folder / "model.safetensors")
    tensors["head.bias"][0] = np.nan
    save_file(tensors, folder / "model.safetensors")
    for words in (["predict", "-m", folder], ["embed", "-e", folder]):
        with pytest.raises(AffettoError, match=r"NaN or infinite: head.bias"):
            run(*words, corpus.path(0), "-o", tmp_path / "none.parquet")
    (folder / "config.json").chmod(0o644)
    text = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(
        text.replace('"embedder"', '"surplus": 1, "embedder"', 1), encoding="utf-8"
    )
    with pytest.raises(AffettoError, match="unknown setting 'surplus'; allowed: "):
        run("predict", corpus.path(0), "-m", folder, "-o", tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("predict", "-m", "someone/something"), "cannot be fetched from the Hugging Face hub"),
        (("embed", "-e", "whisper"), "no folder of this name, nor the hub"),
        (("finetune", *FINETUNE[:2], "--encoder", "wav2vec2"), "no folder of this name, nor the hub"),
    ],
)
def test_without_the_hub_its_names_are_an_error(
    words: tuple[str, ...], what: str, corpus: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    corpus.write(tmp_path / "m.csv")
    source = ["--manifest", tmp_path / "m.csv"] if words[0] == "finetune" else [corpus.path(0)]
    with pytest.raises(AffettoError, match=f"{what}.*check the name and the connection"):
        run(*words, *source, "-o", tmp_path / "out.parquet")


@pytest.mark.parametrize(
    ("few", "message"),
    [
        (lambda table: table[table["speaker"] == "f01"], "needs at least 5 speakers; this manifest has 1"),
        (
            lambda table: table[table["speaker"].isin(["f01", "m01"])],
            "needs at least 5 speakers; this .* has 2",
        ),
        (lambda table: table.drop_duplicates("emotion"), "needs at least 5 speakers; this manifest has 1"),
        (
            lambda table: table[table["emotion"] == "anger"],
            "utterances of fold 1 are anger; at least two emotions",
        ),
        (lambda table: table.assign(emotion=None), "no row of the manifest is labelled"),
    ],
)
def test_too_few_are_an_error_that_counts(few: Any, message: str, corpus: Manifest, tmp_path: Path) -> None:
    Manifest(few(corpus.table), corpus.roots).write(tmp_path / "m.csv")
    with pytest.raises(AffettoError, match=message):
        run("finetune", "--manifest", tmp_path / "m.csv", *FINETUNE, "-o", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_class_of_one_speaker_is_absent_in_folds_and_what_is_left_out_is_counted(
    corpus: Manifest, tmp_path: Path
) -> None:
    table = corpus.table[(corpus.table["emotion"] != "anger") | (corpus.table["speaker"] == "f01")]
    table = table.assign(emotion=table["emotion"].where(table["emotion"] != "fear", None))
    roots = dict(corpus.roots)
    missing = table[:1].assign(key="gone", file="gone.wav", emotion="sadness")
    Manifest(pd.concat([table, missing]), roots).write(tmp_path / "m.csv")
    said = run("finetune", "--manifest", tmp_path / "m.csv", *FINETUNE, "-o", tmp_path / "run")
    assert "left out: gone: " in said
    assert "utterances left out: 1 that cannot be read, 6 without a label\n" in said
    run("evaluate", tmp_path / "run")
    tested = pd.read_parquet(tmp_path / "run" / "predictions.parquet").query("part == 'test'")
    assert len(tested) == int(table["emotion"].notna().sum())
