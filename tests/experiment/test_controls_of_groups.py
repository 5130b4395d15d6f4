"""Controls of groups, written as columns by a script, and what pretraining makes of them."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from affetto.analysis.confounds import Measures
from affetto.corpora.arrays import marks_of
from affetto.corpora.manifest import Manifest
from affetto.errors import LeakError, ManifestError
from affetto.evaluation.run import evaluate
from affetto.finetuning.run import finetune
from affetto.finetuning.settings import finetune_settings
from affetto.material.recordings import Recordings
from affetto.models.checkpoint import read_config
from affetto.pretraining.columns import GroupColumn
from affetto.pretraining.run import pretrain
from affetto.pretraining.settings import pretrain_settings
from helpers import script

RECORDED = json.loads((Path(__file__).parent / "control_groups.json").read_text())


@pytest.fixture(scope="module")
def controls() -> ModuleType:
    return script("experiments/controls.py")


@pytest.fixture(scope="module")
def clustered(corpus: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = corpus.table.copy()
    table["cluster"] = ["0" if row % 3 else "1" for row in range(len(table))]
    table.loc[3, "cluster"] = None
    file = tmp_path_factory.mktemp("clustered") / "clusters.csv"
    Manifest(table, corpus.roots).write(file)
    return file


def numbers(file: Path, column: str) -> list[int]:
    return GroupColumn(Manifest.read(file), column, "annotate clusters").values.tolist()


@pytest.mark.parametrize(
    ("asked", "column", "recorded"),
    [
        ("random", "random_cluster", "random:cluster seed 0"),
        ("random --seed 1", "random_cluster", "random:cluster seed 1"),
        ("random --column text --name shuffled", "shuffled", "random:text seed 0"),
        ("duration --count 5", "duration_5", "duration:5 seed 0"),
        ("loudness --count 2", "loudness_2", "loudness:2 seed 0"),
        ("pitch --count 2", "pitch_2", "pitch:2 seed 0"),
        ("purity --share 0.6", "purity_0.6", "purity:0.6 seed 0"),
        ("purity --share 0.6 --seed 2", "purity_0.6", "purity:0.6 seed 2"),
        ("purity --share 0 --name wrong", "wrong", "purity:0 seed 0"),
    ],
)
def test_groups_are_those_of_recorded_examples(
    controls: ModuleType, clustered: Path, tmp_path: Path, asked: str, column: str, recorded: str
) -> None:
    control, *options = asked.split()
    controls.main([control, str(clustered), "-o", str(tmp_path / "new.csv"), *options])
    assert " ".join(map(str, numbers(tmp_path / "new.csv", column))) == RECORDED[recorded]


def test_random_groups_have_the_same_sizes_in_every_speaker(
    controls: ModuleType, clustered: Path, tmp_path: Path
) -> None:
    controls.main(["random", str(clustered), "-o", str(tmp_path / "new.csv")])
    table = Manifest.read(tmp_path / "new.csv").table.astype(str)
    assert (table["random_cluster"] != table["cluster"]).any()
    sizes = [table.groupby(["speaker", name]).size() for name in ("cluster", "random_cluster")]
    pd.testing.assert_series_equal(*sizes, check_names=False, check_index=False)


def test_measures_cut_each_speaker_into_shares_in_order(controls: ModuleType, corpus: Manifest) -> None:
    recordings = Recordings(corpus)
    measures = recordings.vectors(Measures()).double().numpy()
    for name, count in (("duration", 5), ("loudness", 2), ("pitch", 2)):
        values = measures[:, Measures.names.index(name)]
        groups = controls.measured_groups(recordings, name, count)
        assert [group is None for group in groups] == np.isnan(values).tolist()
        for speaker in np.unique(recordings.speakers):
            own = np.flatnonzero((recordings.speakers == speaker) & np.isfinite(values))
            order = np.array([groups[row] for row in own[np.argsort(values[own], kind="stable")]])
            assert (np.diff(order) >= 0).all()
            if name == "loudness":  # durations come twice, and equal ones stay together
                assert np.ptp(np.bincount(order)) == 0


def test_purity_is_the_share_that_keeps_its_emotion(controls: ModuleType, corpus: Manifest) -> None:
    truth = corpus.table["emotion"]
    for share, low, high in ((0.0, 0, 0), (0.5, 0.3, 0.7), (1.0, 1, 1)):
        found = controls.impure_groups(truth, share, 0)
        assert low <= float(np.mean(np.array(found) == truth.to_numpy())) <= high


def test_what_does_not_fit_is_refused(
    controls: ModuleType, clustered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["-o", str(tmp_path / "new.csv")]
    for words in (["duration", "--count", "0"], ["duration", "--count", "2.5"], ["purity", "--share", "1.2"]):
        with pytest.raises(SystemExit):
            controls.main([words[0], str(clustered), *out, *words[1:]])
    assert "--count" in capsys.readouterr().err
    with pytest.raises(ManifestError, match="lacks the column 'clutser'"):
        controls.main(["random", str(clustered), *out, "--column", "clutser"])


def test_labels_are_marked_and_the_leak_guard_sees_them(
    controls: ModuleType, clustered: Path, protocol: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.csv"
    controls.main(["purity", str(clustered), "-o", str(new), "--share", "0.6"])
    controls.main(["random", str(new), "-o", str(new)])
    controls.main(["random", str(new), "-o", str(new), "--column", "emotion"])
    manifest = Manifest.read(new)
    for column, used in (("purity_0.6", True), ("random_emotion", True), ("random_cluster", False)):
        assert marks_of(manifest, column).labels_used is used, column
    tiny = (
        "encoder.width=16",
        "encoder.blocks=1",
        "encoder.bins=20",
        "train.epochs=1",
        "train.batch_size=16",
    )
    seen = {}
    for name, given in (("all", {}), ("fold", {"protocol": str(protocol)})):
        settings = pretrain_settings(None, tiny, groups="purity_0.6", per_speaker=8, **given)
        run = pretrain(manifest, settings, tmp_path / name)
        seen[name] = read_config(run / "seed-0/fold-1/encoder")["speakers_seen"]["with_labels"]
    assert len(seen["all"]) == 6
    assert seen["fold"] == ["toy/f01", "toy/f02", "toy/m01", "toy/m02"]
    settings = finetune_settings(
        None, ("train.epochs=1",), protocol=str(protocol), encoder=str(tmp_path / "all"), enrolment=False
    )
    with pytest.raises(LeakError, match="f03"):
        evaluate(finetune(manifest, settings, tmp_path / "leak").path)


def test_genders_of_other_speakers(controls: ModuleType, corpus: Manifest, tmp_path: Path) -> None:
    corpus.write(tmp_path / "toy.csv")
    controls.main(["shuffled-gender", str(tmp_path / "toy.csv"), "--out", str(tmp_path / "new.csv")])
    table = Manifest.read(tmp_path / "new.csv").table
    pd.testing.assert_series_equal(table["gender"], corpus.table["gender"], check_dtype=False)
    shuffled = table.groupby("speaker")["shuffled_gender"].unique()
    assert all(len(genders) == 1 for genders in shuffled)
    own = table.groupby("speaker")["gender"].first()
    assert sorted(genders[0] for genders in shuffled) == sorted(own)
    assert [genders[0] for genders in shuffled] != own.tolist()
    words = [
        "shuffled-gender",
        str(tmp_path / "toy.csv"),
        "--out",
        str(tmp_path / "x.csv"),
        "--column",
        "sex",
    ]
    with pytest.raises(ManifestError, match="sex"):
        controls.main(words)
