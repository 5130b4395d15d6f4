import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from affetto.corpora import scan
from affetto.errors import ManifestError

Record = Callable[..., Path]


def rows(manifest: object) -> list[dict[str, object]]:
    return manifest.table.to_dict("records")  # type: ignore[attr-defined]


def test_a_csv_with_a_column_mapping(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "clips" / "1.wav")
    record(tmp_path / "clips" / "2.wav")
    (tmp_path / "list.csv").write_text(
        "Pfad,Gefuehl,Wer,Sex,age\nclips/1.wav,Wut,03,F,7\nclips/2.wav,Angry,04,m,08\n"
    )
    manifest = scan(
        "table",
        tmp_path / "list.csv",
        columns={"file": "Pfad", "emotion": "Gefuehl", "speaker": "Wer"},
        name="mine",
    )
    one, other = rows(manifest)
    assert (one["emotion"], one["speaker"], one["gender"], one["corpus"]) == ("anger", "03", "female", "mine")
    assert (other["emotion"], other["gender"], other["age"]) == ("anger", "male", "08")
    assert manifest.paths == [tmp_path / "clips" / "1.wav", tmp_path / "clips" / "2.wav"]


def test_a_tsv_with_usual_names_needs_no_mapping(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "audio" / "a.wav")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "l.tsv").write_text(
        "Path\tLabel\tspeaker_id\ttranscript\tstart\na.wav\tsad\t1\tHi\t0.1\n"
    )
    (row,) = rows(scan("table", tmp_path / "lists" / "l.tsv", audio_root=tmp_path / "audio"))
    assert (row["emotion"], row["speaker"], row["text"], row["start"]) == ("sadness", "1", "Hi", 0.1)


def test_columns_that_do_not_exist_are_named(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("clip,emotion\na.wav,sad\n")
    with pytest.raises(
        ManifestError, match=r"lacks a column of file names; it has clip, emotion.*--column file="
    ):
        scan("table", tmp_path / "l.csv")
    with pytest.raises(ManifestError, match=r"unknown column of the table 'clips'.*did you mean 'clip'"):
        scan("table", tmp_path / "l.csv", columns={"file": "clips"})


def test_an_unknown_emotion_is_refused_mapped_or_kept(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / "l.csv").write_text("file,emotion\na.wav,happines\n")
    with pytest.raises(ManifestError, match=r"unknown emotion 'happines'.*did you mean 'happiness'"):
        scan("table", tmp_path / "l.csv")
    assert scan("table", tmp_path / "l.csv", labels={"happines": "happiness"}).labels == ["happiness"]
    assert scan("table", tmp_path / "l.csv", keep_labels=True).labels == ["happines"]


def test_files_that_cannot_be_used_are_left_out_and_named(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "in" / "a.wav")
    record(tmp_path / "b.wav")
    (tmp_path / "in" / "broken.wav").write_bytes(b"?")
    (tmp_path / "in" / "l.csv").write_text(
        "file,speaker\na.wav,1\nbroken.wav,1\nabsent.wav,1\n../b.wav,1\n,2\n"
    )
    manifest = scan("table", tmp_path / "in" / "l.csv")
    assert manifest.keys == ["a"]
    errors = dict(manifest.errors)
    assert set(errors) == {"broken.wav", "absent.wav", "../b.wav", "nan"}
    assert "lies outside" in errors["../b.wav"]
    (tmp_path / "in" / "l.csv").write_text("file,speaker\nabsent.wav,1\n")
    with pytest.raises(ManifestError, match=r"not one usable recording; absent\.wav"):
        scan("table", tmp_path / "in" / "l.csv")


def test_a_folder_with_a_pattern(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "spk01" / "angry" / "u1.flac")
    record(tmp_path / "spk02" / "sad" / "u1.wav")
    record(tmp_path / "noise.wav")
    manifest = scan("table", tmp_path, pattern=r"(?P<speaker>spk\d+)/(?P<emotion>\w+)/")
    assert [(row["key"], row["speaker"], row["emotion"]) for row in rows(manifest)] == [
        ("spk01/angry/u1", "spk01", "anger"),
        ("spk02/sad/u1", "spk02", "sadness"),
    ]
    assert manifest.notes == ("1 recordings do not match the pattern: noise.wav",)
    with pytest.raises(ManifestError, match="do not match the pattern"):
        scan("table", tmp_path, pattern=r"(?P<speaker>nobody)/")


@pytest.mark.parametrize(
    ("pattern", "message"), [("(", "no regular expression"), (r"\d+", "names no column")]
)
def test_a_bad_pattern(tmp_path: Path, record: Record, pattern: str, message: str) -> None:
    record(tmp_path / "a.wav")
    with pytest.raises(ManifestError, match=message):
        scan("table", tmp_path, pattern=pattern)


def test_a_folder_without_anything_is_unlabelled_speech(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "a.wav")
    manifest = scan("table", tmp_path)
    assert (len(manifest), manifest.speakers, manifest.labels) == (1, [], [])
    assert "no pattern was given" in manifest.notes[0]


def test_a_pattern_fills_what_a_table_leaves_empty(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "s1_a.wav")
    record(tmp_path / "s2_b.wav")
    (tmp_path / "l.csv").write_text("file,speaker\ns1_a.wav,known\ns2_b.wav,\n")
    manifest = scan("table", tmp_path / "l.csv", pattern=r"(?P<speaker>s\d)_")
    assert manifest.table["speaker"].tolist() == ["known", "s2"]


def test_hugging_face_metadata(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "data" / "train" / "a.wav")
    record(tmp_path / "data" / "train" / "b.wav")
    (tmp_path / "data" / "metadata.csv").write_text(
        "file_name,label,speaker\ntrain/a.wav,happy,1\ntrain/b.wav,angry,2\n"
    )
    manifest = scan("table", tmp_path / "data")
    assert manifest.labels == ["anger", "happiness"]
    assert manifest.corpora == ["data"]


def test_emobox_jsonl(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "downloads" / "emodb" / "wav" / "03a02Wb.opus".replace("opus", "flac"))
    line = {
        "key": "emodb-03a02Wb",
        "dataset": "emodb",
        "wav": "downloads/emodb/wav/03a02Wb.wav",
        "type": "raw",
        "sample_rate": 16000,
        "length": 0.5,
        "task": "category",
        "emo": "boredem",
        "channel": 1,
    }
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "emodb.jsonl").write_text(json.dumps(line) + "\n")
    manifest = scan(
        "table", tmp_path / "data" / "emodb.jsonl", audio_root=tmp_path, pattern=r"/(?P<speaker>\d\d)a"
    )
    (row,) = rows(manifest)
    assert (row["key"], row["corpus"], row["emotion"], row["speaker"]) == (
        "emodb-03a02Wb",
        "emodb",
        "boredom",
        "03",
    )
    assert row["file"] == "downloads/emodb/wav/03a02Wb.flac"


HEADER = {
    "name": "mine",
    "languages": ["deu"],
    "schemes": {
        "emotion": {"dtype": "str", "labels": ["anger", "sadness"]},
        "speaker": {"dtype": "int", "labels": "speaker"},
        "gender": {"dtype": "str"},
        "transcription": {"dtype": "str", "labels": {"a01": "Guten Tag.", "a02": "Gute Nacht."}},
    },
    "splits": {"test": {"type": "test"}},
    "tables": {
        "files": {
            "type": "filewise",
            "columns": {"speaker": {"scheme_id": "speaker"}, "transcription": {"scheme_id": "transcription"}},
        },
        "emotion": {"type": "filewise", "split_id": "test", "columns": {"emotion": {"scheme_id": "emotion"}}},
    },
    "misc_tables": {
        "speaker": {"levels": {"speaker": "int"}, "columns": {"gender": {"scheme_id": "gender"}}}
    },
}


def audformat(root: Path, record: Record, parquet: bool = False) -> None:
    record(root / "wav" / "a.wav", seconds=2)
    record(root / "wav" / "b.wav", seconds=2)
    (root / "db.yaml").write_text(yaml.safe_dump(HEADER))
    tables = {
        "files": {"file": ["wav/a.wav", "wav/b.wav"], "speaker": [3, 8], "transcription": ["a01", "a02"]},
        "emotion": {"file": ["wav/a.wav", "wav/b.wav"], "emotion": ["anger", "sadness"]},
        "speaker": {"speaker": [3, 8], "gender": ["male", "female"]},
    }
    for name, columns in tables.items():
        table = pd.DataFrame(columns)
        table.to_parquet(root / f"db.{name}.parquet") if parquet else table.to_csv(
            root / f"db.{name}.csv", index=False
        )


@pytest.mark.parametrize("parquet", [False, True])
def test_audformat_tables_are_put_side_by_side(tmp_path: Path, record: Record, parquet: bool) -> None:
    audformat(tmp_path, record, parquet)
    one, other = rows(scan("table", tmp_path))
    assert (one["speaker"], one["gender"], one["emotion"]) == ("3", "male", "anger")
    assert (one["text"], one["language"], one["split"]) == ("Guten Tag.", "deu", "test")
    assert (other["speaker"], other["gender"], other["emotion"]) == ("8", "female", "sadness")


def test_audformat_segments_take_what_is_known_of_their_file(tmp_path: Path, record: Record) -> None:
    audformat(tmp_path, record)
    header = json.loads(json.dumps(HEADER))
    header["tables"]["emotion"]["type"] = "segmented"
    (tmp_path / "db.yaml").write_text(yaml.safe_dump(header))
    (tmp_path / "db.emotion.csv").write_text(
        "file,start,end,emotion\n"
        "wav/a.wav,0 days 00:00:00,0 days 00:00:00.500000,anger\n"
        "wav/a.wav,0 days 00:00:01.250000,,sadness\n"
    )
    manifest = scan("table", tmp_path)
    assert manifest.table["start"].tolist() == [0.0, 1.25]
    assert manifest.table["end"].tolist()[0] == 0.5
    assert manifest.table["end"].isna().tolist() == [False, True]
    assert manifest.table["speaker"].tolist() == ["3", "3"]
    assert manifest.problems() == []


def test_audformat_faults_are_named(tmp_path: Path, record: Record) -> None:
    audformat(tmp_path, record)
    with pytest.raises(ManifestError, match=r"unknown audformat table 'emotions'.*did you mean 'emotion'"):
        scan("table", tmp_path, tables=["emotions"])
    header = json.loads(json.dumps(HEADER))
    header["tables"]["other"] = header["tables"]["emotion"]
    (tmp_path / "db.yaml").write_text(yaml.safe_dump(header))
    with pytest.raises(ManifestError, match=r"no db\.other\.csv or \.parquet"):
        scan("table", tmp_path)
    (tmp_path / "db.other.csv").write_text("file,emotion\nwav/a.wav,sadness\n")
    with pytest.raises(ManifestError, match=r"contradict each other: emotion of wav/a\.wav"):
        scan("table", tmp_path)
    assert len(scan("table", tmp_path, tables=["files", "emotion"])) == 2
    (tmp_path / "db.yaml").write_text("- a list")
    with pytest.raises(ManifestError, match="no audformat header"):
        scan("table", tmp_path)


def test_unknown_corpora_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"unknown corpus 'cremad'.*did you mean 'crema-d'"):
        scan("cremad", tmp_path)
    with pytest.raises(ManifestError, match="does not exist"):
        scan("emodb", tmp_path / "nowhere")
    (tmp_path / "l.txt").touch()
    with pytest.raises(ManifestError, match=r"unknown table format '\.txt'"):
        scan("table", tmp_path / "l.txt")


def test_a_sheet_of_a_spreadsheet_program(tmp_path: Path, record: Record) -> None:
    for name in ("day1/A7_x.wav", "day2/B3_x.wav", "day2/C.1.wav"):
        record(tmp_path / name)
    text = "Aufnahme;Stimmung\nA7_x;wütend\nB3_x.wav;traurig\nC.1;froh\n"
    (tmp_path / "sheet.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    manifest = scan(
        "table",
        tmp_path / "sheet.csv",
        columns={"file": "Aufnahme", "emotion": "Stimmung"},
        pattern=r"(?P<speaker>[A-Z])",
        labels={"wütend": "anger", "traurig": "sadness", "froh": "happiness"},
    )
    assert [(row["file"], row["speaker"], row["emotion"]) for row in rows(manifest)] == [
        ("day1/A7_x.wav", "A", "anger"),
        ("day2/B3_x.wav", "B", "sadness"),
        ("day2/C.1.wav", "C", "happiness"),
    ]


def test_a_name_of_two_recordings_is_refused_for_that_row(tmp_path: Path, record: Record) -> None:
    for name in ("one/a.wav", "two/a.wav", "two/b.wav"):
        record(tmp_path / name)
    (tmp_path / "l.csv").write_text("file,emotion\na,sad\nb,sad\nc,sad\n")
    manifest = scan("table", tmp_path / "l.csv")
    assert [row["file"] for row in rows(manifest)] == ["two/b.wav"]
    assert manifest.errors[0] == (
        "a",
        "is the name of 2 recordings: one/a.wav, two/a.wav; name their folders too",
    )
    assert "no such file" in manifest.errors[1][1]


def test_a_sheet_that_is_no_text_says_how_to_save_it(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes("file,emotion\na.wav,wütend\n".encode("cp1252"))
    with pytest.raises(ManifestError, match="it is not UTF-8; save it again as CSV in UTF-8"):
        scan("table", tmp_path / "l.csv")
    (tmp_path / "l.xlsx").write_bytes(b"PK")
    with pytest.raises(ManifestError, match="a spreadsheet program saves its sheet as CSV"):
        scan("table", tmp_path / "l.xlsx")


def test_a_name_with_a_dot_is_not_taken_for_another(tmp_path: Path, record: Record) -> None:
    for name in ("clip.flac", "clip.2.flac", "f01.wav"):
        record(tmp_path / name)
    (tmp_path / "f01").mkdir()
    (tmp_path / "l.csv").write_text("file,emotion\nclip.2,sad\nclip,angry\nf01,happy\nclip.3,sad\n")
    manifest = scan("table", tmp_path / "l.csv")
    assert [(row["file"], row["emotion"]) for row in rows(manifest)] == [
        ("clip.2.flac", "sadness"),
        ("clip.flac", "anger"),
        ("f01.wav", "happiness"),
    ]
    assert [file for file, _ in manifest.errors] == ["clip.3"]


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nfile;emotion\na.wav;sad\n",
        'file;emotion;"note, by us, long, too long"\na.wav;sad;x\n',
        "file;emotion\na.wav;sad;\n",
        "file\temotion\na.wav\tsad\n",
    ],
)
def test_oddities_of_sheets(tmp_path: Path, record: Record, text: str) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / "l.csv").write_text(text)
    (row,) = rows(scan("table", tmp_path / "l.csv"))
    assert (row["file"], row["emotion"]) == ("a.wav", "sadness")
