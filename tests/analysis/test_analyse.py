"""What an analysis says is what the manifest holds: emotion, a channel in its place, or nothing at all."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from affetto.analysis.clusters import analyse_clusters
from affetto.analysis.clusters_page import clusters_page, overview
from affetto.analysis.comparison import AnalyseSettings, Analysis, compare_clusters, read_clusters
from affetto.cli import app
from affetto.corpora.arrays import cell, write_vectors
from affetto.corpora.manifest import Manifest
from affetto.errors import ConfigError, ManifestError, RunError

EMOTIONS = ("anger", "fear", "sadness")
QUICK: dict[str, Any] = {"permutations": 20, "draws": 100, "map": "none", "measure": False, "folds": 3}


def quick(**changes: Any) -> AnalyseSettings:
    return AnalyseSettings(**{**QUICK, **changes})


def analyse(manifest: Manifest, settings: AnalyseSettings) -> Analysis:
    return compare_clusters(manifest, settings, *read_clusters(manifest, settings))


def sentences(found: Analysis) -> str:
    return " ".join(text.text for text in overview(found))


def alarms(found: Analysis) -> list[str]:
    return [text.text for text in overview(found) if text.alarm]


def table(follow: str = "emotion", speakers: int = 6, each: int = 36, noise: float = 0.1) -> pd.DataFrame:
    """Utterances whose clusters follow a column, but for a share of them."""
    generator = np.random.default_rng(0)
    number = np.tile(np.arange(each), speakers)
    rows = pd.DataFrame(
        {
            "key": [f"u{row:04d}" for row in range(len(number))],
            "file": [f"u{row:04d}.wav" for row in range(len(number))],
            "speaker": np.repeat([f"s{speaker}" for speaker in range(speakers)], each),
            "emotion": np.array(EMOTIONS)[number % 3],
            "session": np.array(["left", "right"])[number // 3 % 2],
            "text": np.array(["one", "two", "three"])[number // 6 % 3],
        }
    )
    codes = pd.factorize(rows[follow])[0]
    drawn = generator.random(len(rows)) < noise
    rows["cluster"] = np.where(drawn, generator.integers(0, 3, len(rows)), codes).astype(str)
    return rows


def listed(folder: Path, rows: pd.DataFrame, encoder: str = "made-up") -> Manifest:
    """The manifest, with embeddings that show each cluster, and the speaker far more."""
    generator = np.random.default_rng(1)
    codes = pd.factorize(rows["cluster"], sort=True)[0]
    vectors = 0.3 * generator.normal(size=(len(rows), 6)) + np.eye(6)[np.clip(codes, 0, 5)]
    speakers = pd.factorize(rows["speaker"])[0]
    vectors += 4 * generator.normal(size=(speakers.max() + 1, 6))[speakers]
    array = folder / "speaker_embedding.npy"
    info = {"encoder": encoder, "encoder_sha256": f"sha-{encoder}"}
    write_vectors(array, vectors.astype(np.float32), rows["key"].tolist(), info)
    return Manifest(
        rows.assign(speaker_embedding=[cell(array, row) for row in range(len(rows))]), {"": folder}
    )


def result(out: Path) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    found: dict[str, Any] = json.loads((out / "analysis.json").read_text(), parse_constant=refuse)
    return found


def test_clusters_that_follow_emotion(tmp_path: Path) -> None:
    out = tmp_path / "out"
    analyse_clusters(listed(tmp_path, table()), quick(map="pca"), out)
    found = result(out)
    assert found["agreement"]["emotion"]["ami"]["value"] > 0.6
    assert found["agreement"]["emotion"]["ami"]["p"] == pytest.approx(1 / 21)
    assert abs(found["agreement"]["session"]["ami"]["value"]) < 0.1
    assert found["agreement"]["session"]["emotion_minus_this"]["low"] > 0.5
    assert found["agreement"]["sentence"]["emotion_beyond_this"]["low"] > 0.5
    assert found["partners"]["anger"]["share"] > 0.7
    assert found["partners"]["anger"]["chance"] == pytest.approx(11 / 35)
    assert found["probe"]["centred"]["value"] > found["probe"]["raw"]["value"] + 0.1
    assert "216 in 3 clusters a speaker" in found["words"][0]
    assert any(words.startswith("AMI of the clusters with emotion: 0.") for words in found["words"])
    page = (out / "report.html").read_text()
    assert 'class="alarm"' not in page
    assert set(re.findall(r'(?:src|href)="(.{10})', page)) == {"data:image"}
    text = (out / "report.md").read_text()
    assert "source file (nearly every utterance has a value of its own)" in text
    for name in re.findall(r"\]\((.+?)\)", text):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert text.count("![Maps of 6 speakers") == 1
    assert (out / "DONE").exists()


def test_a_channel_cannot_pass_for_emotion(tmp_path: Path) -> None:
    rows = table("session")
    alike = np.random.default_rng(2).random(len(rows)) < 0.5
    rows["emotion"] = np.where(
        alike, rows["session"].map({"left": "anger", "right": "fear"}), rows["emotion"]
    )
    out = tmp_path / "out"
    analyse_clusters(listed(tmp_path, rows), quick(permutations=100), out)
    found = result(out)
    assert found["agreement"]["emotion"]["ami"]["p"] < 0.05
    assert found["agreement"]["session"]["emotion_minus_this"]["high"] < 0
    found_alarms = re.findall(r'class="alarm">(.+?)</p>', (out / "report.html").read_text())
    assert "The clusters agree more with session" in found_alarms[0]
    assert "may learn session" in found_alarms[0]
    assert "Within equal session, the clusters agree with emotion no more than by chance." in found_alarms[1]


def test_random_clusters(tmp_path: Path) -> None:
    found = analyse(listed(tmp_path, table(noise=1.0)), quick(permutations=100))
    assert found.emotion is not None
    assert abs(found.emotion.averages["ami"].value) < 0.05
    assert found.emotion.averages["ami"].p > 0.05
    assert all(each.averages["ami"].p > 0.05 for each in found.others)
    assert alarms(found) == []


def test_clusters_of_a_channel_alone(tmp_path: Path) -> None:
    (alarm,) = alarms(analyse(listed(tmp_path, table("session")), quick()))
    assert re.match(
        r"The clusters agree more with session \(AMI 0\.\d+ .*\) than with emotion \(AMI .*\):", alarm
    )


def test_a_column_that_determines_emotion_is_named(tmp_path: Path) -> None:
    rows = table()
    rows["session"] = rows["emotion"].map({"anger": "x", "fear": "y", "sadness": "z"})
    found = analyse(listed(tmp_path, rows), quick())
    assert alarms(found) == [
        "Utterances equal in session have one emotion in every speaker: the two cannot be separated."
    ]
    page = clusters_page(found).blocks
    held = next(block for block in page if getattr(block, "heads", [""])[-1] == "emotion with this")
    rows_of = {row[0]: row[1:] for row in held.rows}
    assert rows_of["session"] == ["0.00 [0.00, 0.00]", "determined", "determined", "1.00 [1.00, 1.00]"]


def test_without_emotion_labels_it_says_what_it_cannot_say(tmp_path: Path) -> None:
    manifest = listed(tmp_path, table("session").drop(columns="emotion"))
    analyse_clusters(manifest, quick(map="pca"), tmp_path / "out")
    found = result(tmp_path / "out")
    assert "emotion" not in found["agreement"]
    assert (found["partners"], found["probe"]) == (None, None)
    assert "emotion_minus_this" not in found["agreement"]["session"]
    words = " ".join(found["words"])
    assert "No utterance has an emotion label: agreement with emotion cannot be measured." in words
    assert "AMI of the clusters with session: 0." in words
    text = (tmp_path / "out" / "report.md").read_text()
    assert "## Emotion" not in text
    assert "colour and marker: cluster" in text


@pytest.mark.parametrize("what", ["one emotion a speaker", "one emotion"])
def test_emotions_that_do_not_vary_within_a_speaker(tmp_path: Path, what: str) -> None:
    rows = table()
    rows["emotion"] = np.where((rows["speaker"] == "s1") & (what != "one emotion"), "fear", "anger")
    found = analyse(listed(tmp_path, rows), quick())
    assert found.emotion is None
    assert found.partners is None
    assert found.others


def test_one_speaker_has_no_interval_and_no_probe(tmp_path: Path) -> None:
    analyse_clusters(listed(tmp_path, table(speakers=1)), quick(), tmp_path / "out")
    found = result(tmp_path / "out")
    assert found["agreement"]["emotion"]["ami"]["value"] > 0.6
    assert found["agreement"]["emotion"]["ami"]["low"] is None
    assert found["probe"] is None
    assert "No linear probe was trained: it needs labels of several speakers." in found["words"]


def test_one_cluster_follows_nothing(tmp_path: Path) -> None:
    analyse_clusters(
        listed(tmp_path, table(speakers=2).assign(cluster="0")), quick(map="pca"), tmp_path / "out"
    )
    found = result(tmp_path / "out")
    assert found["agreement"]["emotion"]["ami"]["value"] == 0
    assert found["silhouette"]["value"] is None


def test_speakers_without_clusters_are_named_and_left_out(tmp_path: Path) -> None:
    rows = table()
    rows.loc[rows["speaker"].isin(["s1", "s4"]), "cluster"] = None
    analyse_clusters(listed(tmp_path, rows), quick(), tmp_path / "out")
    found = result(tmp_path / "out")
    assert "Without clusters, and left out: 2 speakers (s1, s4)." in found["words"]
    assert (found["utterances"], found["clustered"]) == (216, 144)
    assert found["agreement"]["emotion"]["speakers"] == 4
    by_name = {speaker["speaker"]: speaker for speaker in found["speakers"]}
    assert by_name["s1"]["clusters"] == 0
    assert by_name["s1"]["agreement"]["emotion"]["ami"] is None


def test_equal_names_in_two_corpora_are_two_people(tmp_path: Path) -> None:
    rows = table(speakers=2).assign(speaker="s0")
    rows["corpus"] = ["one"] * 36 + ["two"] * 36
    rows.loc[rows["corpus"] == "two", "cluster"] = rows["cluster"].map({"0": "1", "1": "2", "2": "0"})
    found = analyse(listed(tmp_path, rows), quick())
    assert found.speakers["speaker"].tolist() == ["one/s0", "two/s0"]
    assert found.emotion is not None
    assert found.emotion.averages["ami"].value > 0.6


def test_utterances_without_embedding_are_left_out(tmp_path: Path) -> None:
    manifest = listed(tmp_path, table())
    manifest.table.loc[:4, "speaker_embedding"] = None
    found = analyse(manifest, quick())
    assert len(found.vectors) == 211
    assert "5 utterances have no embedding" in found.notes[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cluster": None}, "annotate clusters makes it"),
        ({"speaker_embedding": None}, "annotate speakers makes it"),
        ({"cluster": [None] * 216}, "'cluster' is empty in every row; run affetto annotate clusters"),
        ({"speaker_embedding": [None] * 216}, "is empty in every row; run affetto annotate speakers"),
        ({"speaker": [None] + ["s"] * 215}, "'speaker' is empty in 1 rows: u0000"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    rows = listed(tmp_path, table()).table
    for name, values in change.items():
        rows = rows.drop(columns=name) if values is None else rows.assign(**{name: values})
    with pytest.raises(ManifestError, match=message):
        analyse_clusters(Manifest(rows, {"": tmp_path}), quick(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_clusters_only_where_no_embedding_is(tmp_path: Path) -> None:
    rows = listed(tmp_path, table()).table
    rows.loc[:99, "cluster"], rows.loc[100:, "speaker_embedding"] = None, None
    with pytest.raises(ManifestError, match="no utterance with an embedding has a cluster"):
        analyse(Manifest(rows, {"": tmp_path}), quick())


def test_embeddings_of_another_encoder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="made by another encoder than the config says"):
        analyse(listed(tmp_path, table()), quick(encoder="ge2e"))
    assert analyse(listed(tmp_path, table(), "ge2e"), quick(encoder="ge2e")).encoder == "ge2e"


def test_other_names_of_columns_and_other_columns(tmp_path: Path) -> None:
    rows = table()
    rows["mine"], rows["mine_confidence"] = rows.pop("cluster"), 0.5
    rows["level"] = np.random.default_rng(3).normal(size=len(rows))
    rows["second"], rows["second_confidence"] = rows["mine"], 0.5
    rows["votes_anger"], rows["note"] = 1, [["a"]] * len(rows)
    rows["file"] = "tape/" + rows["session"] + "/" + (np.arange(len(rows)) // 9).astype(str) + ".wav"
    manifest = listed(tmp_path, rows.assign(cluster=rows["mine"]))
    found = analyse(
        Manifest(manifest.table.drop(columns="cluster"), {"": tmp_path}), quick(name="mine", bins=4)
    )
    names = {each.column.name: each.column for each in found.others}
    assert set(names) == {"session", "sentence", "level", "source file", "source folder"}
    assert names["level"].bins == 4
    assert np.bincount(names["level"].codes[found.groups == 0]).tolist() == [9, 9, 9, 9]


def test_a_finished_analysis_is_kept_and_another_is_not_mixed_in(tmp_path: Path) -> None:
    manifest, out = listed(tmp_path, table()), tmp_path / "out"
    analyse_clusters(manifest, quick(), out)
    before = (out / "analysis.json").stat().st_mtime_ns
    analyse_clusters(manifest, quick(), out)
    assert (out / "analysis.json").stat().st_mtime_ns == before
    with pytest.raises(RunError, match="other settings"):
        analyse_clusters(manifest, quick(seed=1), out)
    changed = Manifest(manifest.table.assign(cluster="0"), manifest.roots)
    with pytest.raises(RunError, match="clusters_sha256"):
        analyse_clusters(changed, quick(), out)


def test_the_same_seed_gives_the_same_figures(tmp_path: Path) -> None:
    manifest = listed(tmp_path, table(speakers=2))
    for name in ("one", "two"):
        analyse_clusters(manifest, quick(map="tsne", most_maps=1), tmp_path / name)
    assert result(tmp_path / "one") == result(tmp_path / "two")
    one, two = ((tmp_path / name / "maps-01.png").read_bytes() for name in ("one", "two"))
    assert one == two
    assert "1 of 2 speakers are drawn" in (tmp_path / "one" / "report.md").read_text()


def test_embeddings_travel_without_their_recordings(tmp_path: Path) -> None:
    found = analyse(listed(tmp_path, table()), quick(measure=True))
    assert "were not measured: none of the 216 recordings can be decoded" in found.notes[0]
    assert {each.column.name for each in found.others} == {"session", "sentence"}


def test_the_command_line(tmp_path: Path, corpus: Manifest) -> None:
    rows = corpus.table.assign(cluster=pd.factorize(corpus.table["text"])[0].astype(str))
    embedded = listed(tmp_path, rows).table
    broken = Manifest(embedded, corpus.roots)
    broken.table.loc[0, "file"] = "nowhere.flac"
    broken.write(tmp_path / "toy.csv")
    words = ["analyse", "clusters", str(tmp_path / "toy.csv"), "-o", str(tmp_path / "out")]
    words += ["--map", "none", "permutations=20", "draws=100"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 1, shown.output
    assert "The clusters agree more with sentence" in shown.output
    assert f"Not measured, for they cannot be read: {embedded['key'][0]}." in shown.output
    assert "report.html" in shown.output
    found = result(tmp_path / "out")
    assert set(found["agreement"]) >= {"emotion", "duration", "loudness", "pitch", "sentence"}
    assert list(found["unreadable"]) == [embedded["key"][0]]
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 1
    assert "nothing to do" in again.output
    wrong = CliRunner().invoke(app, [*words, "permutation=3"])
    assert isinstance(wrong.exception, ConfigError)
    assert "did you mean 'permutations'" in str(wrong.exception)
