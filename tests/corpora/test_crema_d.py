from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from affetto.corpora import scan
from affetto.errors import ManifestError

VOTES = (
    '"","A","D","F","H","N","S","fileName","numResponses"\n'
    '"100001",7,1,0,0,2,0,"1001_IEO_ANG_HI",10\n'
    '"200001",0,0,0,9,0,0,"1001_IEO_ANG_HI",9\n'
    '"100002",0,0,0,0,4,5,"1040_ITH_SAD_X",9\n'
)


def tree(root: Path, record: Callable[..., Path]) -> None:
    record(root / "AudioWAV" / "1001_IEO_ANG_HI.wav")
    record(root / "AudioWAV" / "1040_ITH_SAD_X.flac")
    (root / "processedResults").mkdir()
    (root / "processedResults" / "tabulatedVotes.csv").write_text(VOTES)
    (root / "VideoDemographics.csv").write_text(
        '"ActorID","Age","Sex","Race"\n1001,51,"Male","x"\n1040,42,"Female","x"\n'
    )


def test_columns_come_from_the_name_and_the_tables(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    manifest = scan("crema-d", tmp_path)
    one, other = (row for _, row in manifest.table.iterrows())
    assert (one["key"], one["speaker"], one["emotion"], one["gender"]) == (
        "1001_IEO_ANG_HI",
        "1001",
        "anger",
        "male",
    )
    assert (one["intensity_level"], one["age"], one["language"]) == ("high", 51, "en")
    assert one["text"] == "It's eleven o'clock."
    assert [one[f"votes_{name}"] for name in ("anger", "disgust", "happiness", "neutral")] == [7, 1, 0, 2]
    assert (other["key"], other["file"]) == ("1040_ITH_SAD_XX", "AudioWAV/1040_ITH_SAD_X.flac")
    assert (other["intensity_level"], other["votes_sadness"]) == (None, 5)


def test_tables_may_be_absent(tmp_path: Path, record: Callable[..., Path]) -> None:
    record(tmp_path / "1001_IEO_ANG_HI.wav")
    manifest = scan("crema-d", tmp_path)
    assert manifest.table["gender"].tolist() == [None]
    assert len(manifest.notes) == 2


def test_strange_files_are_named(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    for name in ("hello", "1001_IEO_JOY_HI", "1001_XYZ_ANG_HI", "1001_IEO_ANG_QQ"):
        record(tmp_path / "AudioWAV" / f"{name}.wav")
    (tmp_path / "AudioWAV" / "1002_IEO_ANG_HI.wav").write_bytes(b"RIFF")
    manifest = scan("crema-d", tmp_path)
    assert len(manifest) == 2
    assert {Path(file).stem for file, _ in manifest.errors} == {
        "hello",
        "1001_IEO_JOY_HI",
        "1001_XYZ_ANG_HI",
        "1001_IEO_ANG_QQ",
        "1002_IEO_ANG_HI",
    }


def test_a_table_of_another_kind_is_refused(tmp_path: Path, record: Callable[..., Path]) -> None:
    tree(tmp_path, record)
    (tmp_path / "VideoDemographics.csv").write_text("Actor,Sex\n1001,Male\n")
    with pytest.raises(ManifestError, match="lacks the columns ActorID, Age"):
        scan("crema-d", tmp_path)


@pytest.mark.corpora
def test_the_real_corpus(corpora_root: Path) -> None:
    manifest = scan("crema-d", corpora_root / "crema-d")
    assert (len(manifest), len(manifest.speakers), manifest.errors, manifest.notes) == (7442, 91, (), ())
    counts = Counter(manifest.table["emotion"])
    assert counts == {
        **dict.fromkeys(("anger", "disgust", "fear", "happiness", "sadness"), 1271),
        "neutral": 1087,
    }
    assert Counter(manifest.table.drop_duplicates("speaker")["gender"]) == {"male": 48, "female": 43}
    votes = manifest.table.filter(like="votes_")
    assert votes.shape == (7442, 6)
    assert int(votes.isna().sum().sum()) == 0

    # The votes are those on the voice alone: their majority is the VoiceVote of the corpus's own summary.
    summary = pd.read_csv(corpora_root / "crema-d" / "processedResults" / "summaryTable.csv").set_index(
        "FileName"
    )
    letters = dict(zip("ADFHNS", sorted(manifest.labels), strict=True))
    own = summary["VoiceVote"].reindex(manifest.keys)
    single = (own.str.len() == 1).to_numpy()
    majority = votes.idxmax(axis=1).str.removeprefix("votes_").to_numpy()
    assert (majority[single] == own[single].map(letters).to_numpy()).mean() > 0.99


@pytest.mark.corpora
def test_validation_finds_the_known_defects(corpora_root: Path) -> None:
    manifest = scan("crema-d", corpora_root / "crema-d")
    sentences = {"1006": "TIE", "1013": "WSI", "1017": "IWW", "1076": "MTI"}
    near = [sentences.get(key[:4]) == key[5:8] for key in manifest.keys]
    found = manifest.where(pd.Series(near)).problems()
    assert {(problem.kind, problem.key) for problem in found} == {
        ("silent", "1076_MTI_SAD_XX"),
        ("contradictory", "1006_TIE_NEU_XX"),
        ("contradictory", "1013_WSI_SAD_XX"),
        ("contradictory", "1017_IWW_FEA_XX"),
    }
