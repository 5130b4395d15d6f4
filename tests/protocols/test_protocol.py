from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some

from affetto.corpora import scan
from affetto.corpora.labels import EMOTIONS
from affetto.corpora.manifest import Manifest
from affetto.errors import ProtocolError
from affetto.protocols import Protocol, list_protocols, load_protocol

LISTED = [name for name in list_protocols() if load_protocol(name).rule is None]
RULES = ["speaker-kfold", "leave-one-speaker-out", "leave-one-corpus-out"]


def corpus_of(protocol: Protocol) -> Manifest:
    """A manifest that fits a protocol: every unit says every class twice."""
    rows = []
    for unit in protocol.units:
        for emotion in [*protocol.labels, "contempt"]:
            for take in "ab":
                speaker = unit + "F" if protocol.unit == "session" else unit
                rows.append((f"{unit}_{emotion}_{take}", speaker, unit[:5], emotion))
    table = pd.DataFrame(rows, columns=["key", "speaker", "session", "emotion"])
    columns = {**protocol.only, **dict.fromkeys(protocol.dimensions, 2.5)}
    return Manifest(table.assign(file=table["key"] + ".wav", corpus=protocol.corpus, **columns))


def test_only_rows_that_the_protocol_asks_for_take_part() -> None:
    protocol = load_protocol("iemocap-4-improvised-loso5")
    manifest = corpus_of(protocol)
    styles = ["scripted" if row % 2 else "improvised" for row in range(len(manifest))]
    selected = protocol.select(Manifest(manifest.table.assign(style=styles)))
    assert set(selected.table["style"]) == {"improvised"}
    assert "only rows with style: improvised" in protocol.describe()
    with pytest.raises(ProtocolError, match="no such column, which affetto scan iemocap writes"):
        protocol.select(Manifest(manifest.table.drop(columns="style")))


def test_the_protocols_are_these() -> None:
    assert list_protocols() == [
        "all-speakers",
        "crema-d-4-peftser",
        "crema-d-6-audb",
        "crema-d-6-emosuperb5",
        "crema-d-6-evar",
        "emodb-7-loso10",
        "esd-5-emobox5",
        "iemocap-4-improvised-loso5",
        "iemocap-4-loso5",
        "iemocap-4-lospo10",
        "iemocap-dimensions-loso5",
        "leave-one-corpus-out",
        "leave-one-speaker-out",
        "msp-podcast",
        "msp-podcast-dimensions",
        "random-by-clip",
        "ravdess-8-emobox6",
        "savee-7-loso4",
        "speaker-kfold",
        "tess",
    ]


@pytest.mark.parametrize("name", list_protocols())
def test_every_protocol_says_what_a_reader_needs(name: str) -> None:
    protocol = load_protocol(name)
    assert protocol.name == name
    assert set(protocol.labels) <= set(EMOTIONS)
    assert protocol.labels == tuple(sorted(protocol.labels))
    assert protocol.caveats
    assert protocol.speaker_dependent == (name in ("random-by-clip", "tess"))
    for figure in protocol.published:
        assert figure.comparable == (
            figure.metric in ("uar", "war", "macro_f1", "macro_f1 on votes") and "test" not in figure.caveat
        )
    text = protocol.describe()
    assert all(part in text for part in (name, protocol.dev_rule, *protocol.caveats))


@pytest.mark.parametrize("name", LISTED)
def test_a_listed_split_covers_everybody_and_shares_nobody(name: str) -> None:
    protocol = load_protocol(name)
    manifest = corpus_of(protocol)
    folds = protocol.folds(manifest)
    speaker = dict(zip(manifest.keys, manifest.table["speaker"], strict=True))
    tested: list[str] = []
    for fold in folds:
        parts = [{speaker[key] for key in part} for part in (fold.train, fold.dev, fold.test)]
        assert parts[0] | parts[1] | parts[2] == set(speaker.values())
        assert sum(map(len, parts)) == len(set(speaker.values()))
        tested += sorted(parts[2])
    if len(folds) > 1:
        assert sorted(tested) == sorted(set(speaker.values()))


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("crema-d-6-evar", [(63, 9, 19)]),
        ("crema-d-6-audb", [(56, 18, 17)]),
        ("crema-d-4-peftser", [(58, 15, 18)]),
        ("crema-d-6-emosuperb5", [(55, 18, 18), (55, 18, 18), (55, 18, 18), (54, 19, 18), (54, 18, 19)]),
        ("ravdess-8-emobox6", [(16, 4, 4)] * 6),
        ("emodb-7-loso10", [(8, 1, 1)] * 10),
        ("iemocap-4-loso5", [(3, 1, 1)] * 5),
        ("iemocap-4-improvised-loso5", [(3, 1, 1)] * 5),
        ("iemocap-4-lospo10", [(8, 1, 1)] * 10),
    ],
)
def test_the_sizes_are_the_published_ones(name: str, sizes: list[tuple[int, int, int]]) -> None:
    protocol = load_protocol(name)
    manifest = corpus_of(protocol)
    speaker = dict(zip(manifest.keys, manifest.table["speaker"], strict=True))
    counts = [
        tuple(len({speaker[key] for key in part}) for part in (fold.train, fold.dev, fold.test))
        for fold in protocol.folds(manifest)
    ]
    assert counts == sizes


@pytest.mark.corpora
def test_clip_counts_on_the_real_corpora(corpora_root: Path) -> None:
    crema = scan("crema-d", corpora_root / "crema-d")
    counts = {
        name: [(len(fold.train), len(fold.dev), len(fold.test)) for fold in load_protocol(name).folds(crema)]
        for name in LISTED
        if name.startswith("crema-d")
    }
    # published: 5155 / 732 / 1551, without three clips of train, one of test, and with the silent one
    assert counts["crema-d-6-evar"] == [(5157, 732, 1552)]
    # published: 4509 / 1470 / 1463 and so on; the silent clip of actor 1076 is the difference
    assert counts["crema-d-6-emosuperb5"] == [
        (4508, 1470, 1463),
        (4495, 1476, 1470),
        (4489, 1476, 1476),
        (4409, 1556, 1476),
        (4422, 1463, 1556),
    ]
    assert sum(counts["crema-d-6-audb"][0]) == 7441
    assert sum(counts["crema-d-4-peftser"][0]) == 4899
    ravdess = scan("ravdess", corpora_root / "ravdess")
    assert {len(fold.test) for fold in load_protocol("ravdess-8-emobox6").folds(ravdess)} == {240}
    emodb = scan("emodb", corpora_root / "emodb")
    assert sum(len(fold.test) for fold in load_protocol("emodb-7-loso10").folds(emodb)) == 535


def test_selecting_maps_drops_and_may_be_repeated() -> None:
    protocol = load_protocol("iemocap-4-loso5")
    manifest = corpus_of(protocol)
    manifest = Manifest(manifest.table.replace({"emotion": {"happiness": "excitement"}}))
    once = protocol.select(manifest)
    assert once.labels == list(protocol.labels)
    assert "excitement" in set(manifest.table["emotion"])
    twice = protocol.select(once)
    assert twice.sha256 == once.sha256
    assert protocol.folds(once) == protocol.folds(manifest)


def test_excluded_rows_and_rows_without_a_class_are_left_out() -> None:
    protocol = load_protocol("crema-d-6-evar")
    manifest = corpus_of(protocol)
    keys = manifest.keys
    keys[0] = "1076_MTI_SAD_XX"
    selected = protocol.select(Manifest(manifest.table.assign(key=keys)))
    assert "1076_MTI_SAD_XX" not in selected.keys
    assert len(selected) == 91 * 6 * 2 - 1


def test_missing_and_unknown_speakers_are_named() -> None:
    protocol = load_protocol("emodb-7-loso10")
    manifest = corpus_of(protocol)
    with pytest.raises(ProtocolError, match="needs speaker 09, 11, which this manifest lacks"):
        protocol.folds(manifest.where(~manifest.table["speaker"].isin(["09", "11"])))
    renamed = Manifest(
        pd.concat([manifest.table, manifest.table.iloc[:9].assign(speaker="99", key=list("ABCDEFGHI"))])
    )
    with pytest.raises(ProtocolError, match="does not know speaker 99"):
        protocol.folds(renamed)


def test_a_speaker_in_two_sessions_is_named() -> None:
    protocol = load_protocol("iemocap-4-loso5")
    manifest = corpus_of(protocol)
    table = manifest.table.replace({"speaker": {"Ses02F": "Ses01F"}})
    with pytest.raises(ProtocolError, match="fold 1 has speaker Ses01F in dev and in test"):
        protocol.folds(Manifest(table))


def test_rows_without_a_speaker_are_named() -> None:
    protocol = load_protocol("emodb-7-loso10")
    manifest = corpus_of(protocol)
    speakers = manifest.table["speaker"].tolist()
    speakers[3] = None
    with pytest.raises(ProtocolError, match=f"1 rows have no speaker: {manifest.keys[3]}"):
        protocol.folds(Manifest(manifest.table.assign(speaker=speakers)))


def test_another_corpus_or_a_missing_class_is_refused() -> None:
    protocol = load_protocol("emodb-7-loso10")
    manifest = corpus_of(protocol)
    with pytest.raises(ProtocolError, match="is for emodb; this manifest holds ravdess"):
        protocol.folds(Manifest(manifest.table.assign(corpus="ravdess")))
    with pytest.raises(ProtocolError, match="no row of the manifest is labelled boredom"):
        protocol.folds(manifest.where(manifest.table["emotion"] != "boredom"))
    with pytest.raises(ProtocolError, match="no row of the manifest is labelled any emotion"):
        load_protocol("speaker-kfold").folds(Manifest(manifest.table.assign(emotion=None)))
    assert len(protocol.folds(Manifest(manifest.table.assign(corpus=None)))) == 10


def test_unknown_names_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(
        ProtocolError, match=r"unknown protocol 'crema-d-6-ever'.*did you mean 'crema-d-6-evar'"
    ):
        load_protocol("crema-d-6-ever")
    with pytest.raises(ProtocolError, match="cannot read the protocol"):
        load_protocol(tmp_path / "mine.yaml")


OWN = {
    "name": "mine",
    "description": "two folds",
    "label_source": "the manifest's",
    "units": "01-04",
    "folds": [{"test": "01", "dev": "02"}, {"test": "02", "dev": "01"}],
    "dev_rule": "listed",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": [{"test": "01", "dev": "01 02"}]}, "01 in dev and in test"),
        ({"folds": [{"test": "05", "dev": "01"}]}, "test names 05"),
        ({"folds": [{"test": "", "dev": "01"}]}, "test names nobody"),
        ({"folds": [{"test": 1, "dev": "02"}]}, "ids are text: write them in quotes"),
        ({"folds": []}, "needs either folds or a rule"),
        ({"rule": {"kind": "speaker-kfold"}}, "needs either folds or a rule"),
        ({"label_map": "emodb7"}, "did you mean 'emodb-7'"),
        ({"label_map": "crema-d-4"}, "name different classes"),
        ({"labls": ["anger"]}, "did you mean 'labels'"),
    ],
)
def test_a_file_of_ones_own_is_checked(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**OWN, **change}))
    with pytest.raises(ProtocolError, match=message) as error:
        load_protocol(path)
    assert "mine.yaml is not a protocol" in str(error.value)


def test_a_file_of_ones_own_works_and_has_a_hash(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(OWN))
    protocol = load_protocol(path)
    assert protocol.units == ("01", "02", "03", "04")
    assert protocol.sha256 == load_protocol(str(path)).sha256
    path.write_text(yaml.safe_dump({**OWN, "exclude": "x"}))
    assert load_protocol(path).sha256 != protocol.sha256
    path.write_text("- no mapping")
    with pytest.raises(ProtocolError, match="not a protocol"):
        load_protocol(path)


@some.composite
def manifests(draw: Callable[..., object]) -> Manifest:
    rows = draw(
        some.lists(
            some.tuples(
                some.sampled_from(["x", "y", "z"]),
                some.integers(0, 9),
                some.sampled_from(["anger", "fear", "neutral"]),
                some.sampled_from(["male", "female", None]),
            ),
            min_size=5,
            max_size=80,
        )
    )
    table = pd.DataFrame(rows, columns=["corpus", "speaker", "emotion", "gender"])
    return Manifest(
        table.assign(speaker=table["speaker"].astype(str), file=[f"{row}.wav" for row in range(len(table))])
    )


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=60, deadline=None)
@given(manifest=manifests())
def test_no_speaker_is_ever_in_two_parts(name: str, manifest: Manifest) -> None:
    protocol = load_protocol(name)
    try:
        folds = protocol.folds(manifest)
    except ProtocolError:
        return
    selected = protocol.select(manifest)
    rows = selected.table.set_index("key")
    who = {key: (rows.at[key, "corpus"], rows.at[key, "speaker"]) for key in selected.keys}
    for fold in folds:
        parts = [{who[key] for key in part} for part in (fold.train, fold.dev, fold.test)]
        assert all(parts)
        assert sum(map(len, parts)) == len(parts[0] | parts[1] | parts[2])
        assert sorted(fold.train + fold.dev + fold.test) == sorted(selected.keys)
    assert sorted(key for fold in folds for key in fold.test) == sorted(selected.keys)
