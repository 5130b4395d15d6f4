import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from affetto.corpora import scan
from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import About, collect
from affetto.corpora.tabular import COLUMNS, write_table
from affetto.errors import ManifestError


def small(root: Path = Path("/data/c")) -> Manifest:
    table = pd.DataFrame(
        {
            "key": ["b", "a", "c"],
            "file": ["x/b.wav", "x/a.wav", "x/c.wav"],
            "start": [0.25, None, None],
            "end": [1.5, None, None],
            "speaker": ["03", "03", None],
            "emotion": ["anger", None, "fear"],
            "text": ['He said "no", twice', "NA", "null"],
            "corpus": "emo-db",
            "votes_anger": [2, 0, 1],
            "version": ["01", "02", "03"],
        }
    )
    return Manifest(table, {"emo-db": root})


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_gives_back_what_was_written(tmp_path: Path, suffix: str) -> None:
    manifest = small(tmp_path / "audio")
    path = tmp_path / "lists" / f"m{suffix}"
    manifest.write(path)
    again = Manifest.read(path)
    assert list(again.table.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert again.table["speaker"].tolist() == ["03", "03", None]
    assert again.table["emotion"].tolist() == ["anger", None, "fear"]
    assert again.table["text"].tolist() == ['He said "no", twice', "NA", "null"]
    assert again.table["version"].tolist() == ["01", "02", "03"]
    assert again.table["votes_anger"].tolist() == [2, 0, 1]
    np.testing.assert_array_equal(again.table["start"], [0.25, np.nan, np.nan])
    assert again.sha256 == manifest.sha256
    assert again.roots == manifest.roots


def test_the_roots_file_is_relative_beside_the_manifest_and_moves_with_it(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    small(tmp_path / "project" / "audio").write(tmp_path / "project" / "m.csv")
    (tmp_path / "project").rename(tmp_path / "moved")
    assert Manifest.read(tmp_path / "moved" / "m.csv").roots == {"emo-db": tmp_path / "moved" / "audio"}


def test_a_root_is_taken_from_the_argument_then_the_variable_then_the_file_then_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.csv"
    small(tmp_path / "sidecar").write(path)
    monkeypatch.setenv("AFFETTO_ROOT_EMO_DB", str(tmp_path / "variable"))
    assert Manifest.read(path, tmp_path / "argument").roots["emo-db"] == tmp_path / "argument"
    assert Manifest.read(path).roots["emo-db"] == tmp_path / "variable"
    monkeypatch.delenv("AFFETTO_ROOT_EMO_DB")
    assert Manifest.read(path).roots["emo-db"] == tmp_path / "sidecar"
    (tmp_path / "m.roots.json").unlink()
    assert Manifest.read(path).roots["emo-db"] == tmp_path


def test_a_root_without_a_corpus_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.csv").write_text("file\na.wav\n")
    monkeypatch.setenv("AFFETTO_ROOT", str(tmp_path / "elsewhere"))
    assert Manifest.read(tmp_path / "m.csv").paths == [tmp_path / "elsewhere" / "a.wav"]


def test_a_relative_root_argument_is_relative_to_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "m.csv").write_text("file\na.wav\n")
    monkeypatch.chdir(tmp_path)
    assert Manifest.read("lists/m.csv", "audio").paths == [tmp_path / "audio" / "a.wav"]


@pytest.mark.parametrize("file", ["../secret.wav", "/etc/passwd", "x/../../secret.wav", "../c2/a.wav"])
def test_a_file_outside_the_root_is_refused(file: str) -> None:
    manifest = Manifest(pd.DataFrame({"file": [file], "corpus": ["c"]}), {"c": Path("/data/c")})
    with pytest.raises(ManifestError, match=r"lies outside /data/c.*--root"):
        _ = manifest.paths


def test_an_absolute_path_inside_the_root_is_taken() -> None:
    manifest = Manifest(pd.DataFrame({"file": ["/data/c/a.wav"], "corpus": ["c"]}), {"c": Path("/data/c")})
    assert manifest.paths == [Path("/data/c/a.wav")]


def test_the_hash_ignores_order_annotation_and_format() -> None:
    manifest = small()
    table = manifest.table.iloc[::-1].assign(cluster=[1, 2, 3], file=["z.flac", "y.flac", "x.flac"])
    assert Manifest(table, manifest.roots).sha256 == manifest.sha256
    assert Manifest(manifest.table.assign(emotion="joy"), manifest.roots).sha256 != manifest.sha256
    assert Manifest(manifest.table.assign(speaker="4"), manifest.roots).sha256 != manifest.sha256


def test_rows_are_chosen_by_mask_or_key() -> None:
    manifest = small()
    assert manifest.where(["c", "b"]).keys == ["b", "c"]
    assert manifest.where(manifest.table["speaker"] == "03").keys == ["b", "a"]
    assert len(manifest.where([])) == 0
    with pytest.raises(ManifestError, match="no row has nobody"):
        manifest.where(["a", "nobody"])
    with pytest.raises(ManifestError, match=r"bool \(3,\)"):
        manifest.where(np.array([True, False]))


def test_what_a_manifest_holds() -> None:
    manifest = small()
    assert (len(manifest), manifest.keys) == (3, ["b", "a", "c"])
    assert (manifest.speakers, manifest.labels, manifest.corpora) == (["03"], ["anger", "fear"], ["emo-db"])


def test_missing_columns_and_cells_are_named() -> None:
    manifest = small()
    manifest.require("key", "text", "votes_anger")
    with pytest.raises(ManifestError, match="'emotion' is empty in 1 rows: a"):
        manifest.require("emotion")
    with pytest.raises(
        ManifestError, match=r"lacks the column 'votes_angry'.*is it the column 'votes_anger'"
    ):
        manifest.require("votes_angry")


def test_a_table_without_file_names_the_likely_column(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label\na.wav,anger\n")
    with pytest.raises(
        ManifestError, match=r"m\.csv: lacks the column 'file'; it has path, label; is it .*'path'"
    ):
        Manifest.read(tmp_path / "m.csv")


def test_keys_come_from_file_names_and_must_differ() -> None:
    assert Manifest(pd.DataFrame({"file": ["a/1.wav", "b/1.wav"]})).keys == ["a/1", "b/1"]
    parts = pd.DataFrame({"file": ["a.wav", "a.wav", "b.wav"], "start": [0.0, 1.5, 0.0]})
    assert Manifest(parts).keys == ["a@0.0", "a@1.5", "b"]
    with pytest.raises(ManifestError, match="keys occur twice: k"):
        Manifest(pd.DataFrame({"file": ["a.wav", "b.wav"], "key": ["k", "k"]}))
    with pytest.raises(ManifestError, match="'key' is empty in row 2"):
        Manifest(pd.DataFrame({"file": ["a.wav", "b.wav"], "key": ["k", None]}))


def test_times_must_be_numbers() -> None:
    with pytest.raises(ManifestError, match="'start' must hold seconds"):
        Manifest(pd.DataFrame({"file": ["a.wav"], "start": ["soon"]}))


LATIN = pd.DataFrame({"file": ["ä.wav"]}).to_parquet(None).replace("ä".encode(), b"\xe4\xe4")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.csv", None, "no such file"),
        ("m.xlsx", b"PK", "unknown table format '.xlsx'; allowed: .csv"),
        ("m.csv", b"", "cannot be read as a table"),
        ("m.csv", b"file,emotion\n\xff\xfe,\xff\n", "cannot be read as a table"),
        ("m.jsonl", b'{"file": ', "cannot be read as a table"),
        ("m.parquet", b"not parquet", "cannot be read as a table"),
        ("m.parquet", LATIN, "Invalid UTF8"),
    ],
)
def test_a_damaged_table_says_which_and_why(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ManifestError, match=message) as error:
        Manifest.read(tmp_path / name)
    assert name in str(error.value)


def test_a_damaged_roots_file_is_named(tmp_path: Path) -> None:
    small().write(tmp_path / "m.csv")
    (tmp_path / "m.roots.json").write_text("[not json")
    with pytest.raises(ManifestError, match=r"m\.roots\.json"):
        Manifest.read(tmp_path / "m.csv")


def test_an_unknown_suffix_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"unknown table format '\.cvs'.*did you mean '\.csv'"):
        write_table(small().table, tmp_path / "m.cvs")
    assert list(tmp_path.iterdir()) == []


def test_joined_corpora_do_not_share_ids_by_accident() -> None:
    one = Manifest(
        pd.DataFrame({"file": ["a.wav"], "speaker": ["03"], "corpus": ["emodb"]}), {"emodb": Path("/e")}
    )
    other = Manifest(
        pd.DataFrame({"file": ["b.wav"], "speaker": ["03"], "corpus": ["ravdess"]}), {"ravdess": Path("/r")}
    )
    joined = Manifest.join([one, other])
    assert joined.keys == ["a", "b"]
    assert joined.speakers == ["emodb/03", "ravdess/03"]
    assert joined.paths == [Path("/e/a.wav"), Path("/r/b.wav")]
    assert [note for note in joined.notes if "count as different people: 03" in note]
    with pytest.raises(ManifestError, match=r"two roots.*scan them together"):
        Manifest.join([one, Manifest(one.table, {"emodb": Path("/elsewhere")})])


def test_a_scan_leaves_bad_files_out_and_names_them(tmp_path: Path, record: Callable[..., Path]) -> None:
    record(tmp_path / "good.wav")
    record(tmp_path / "odd.wav")
    record(tmp_path / "twice.wav")
    record(tmp_path / "twice.flac")
    record(tmp_path / ".hidden.wav")
    (tmp_path / "broken.wav").write_bytes(b"RIFF but not really")
    (tmp_path / "empty.opus").touch()
    (tmp_path / "notes.txt").write_text("no audio")

    def row(path: Path) -> dict[str, str]:
        if path.stem == "odd":
            raise ManifestError("is odd")
        return {"speaker": "1"}

    manifest = collect(tmp_path, About("mine", "Mine"), row)
    assert manifest.table["file"].tolist() == ["good.wav", "twice.flac"]
    assert [file for file, _ in manifest.errors] == ["broken.wav", "empty.opus", "odd.wav", "twice.wav"]
    assert "twice.flac, which is kept" in dict(manifest.errors)["twice.wav"]
    with pytest.raises(ManifestError, match="found no recording of mine below"):
        collect(tmp_path, About("mine", "Mine"), lambda path: None)


def test_corpora_and_protocols_load_no_torch() -> None:
    code = (
        "import sys, affetto.corpora.toy, affetto.corpora.table, affetto.corpora.checks, affetto.protocols;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_parts_hold_the_rows_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr("affetto.corpora.manifest.PART_ROWS", 2)
    small().write(tmp_path / f"m{suffix}")
    whole, parts = Manifest.read(tmp_path / f"m{suffix}"), list(Manifest.parts(tmp_path / f"m{suffix}"))
    assert len(parts) == 2
    assert all(part.roots == whole.roots and list(part.table) == list(COLUMNS) for part in parts)
    joined = pd.concat([part.table for part in parts], ignore_index=True)
    pd.testing.assert_frame_equal(joined, whole.table[list(COLUMNS)])


def test_parts_find_a_key_that_occurs_in_two_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affetto.corpora.manifest.PART_ROWS", 2)
    table = small().table.copy()
    table.loc[len(table) - 1, "key"] = table.loc[0, "key"]
    table.to_csv(tmp_path / "m.csv", index=False)
    with pytest.raises(ManifestError, match="keys occur twice"):
        list(Manifest.parts(tmp_path / "m.csv"))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_without_keys_or_rows_is_one_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr("affetto.corpora.manifest.PART_ROWS", 2)
    write_table(small().table.drop(columns="key"), tmp_path / f"m{suffix}")
    [part] = Manifest.parts(tmp_path / f"m{suffix}")
    assert len(part) == 3
    if suffix != ".jsonl":  # which has no header
        write_table(small().table[:0], tmp_path / f"none{suffix}")
        [part] = Manifest.parts(tmp_path / f"none{suffix}")
        assert len(part) == 0


def test_a_row_costs_little_memory(
    tmp_path: Path, record: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path / "a.wav", seconds=1)
    for module in ("manifest", "tabular", "scanning"):
        monkeypatch.setattr(f"affetto.corpora.{module}.PART_ROWS", 500)
    rows = 4000
    listed = {"key": [f"u{row}" for row in range(rows)], "file": "a.wav", "start": np.arange(rows) / 1e4}
    pd.DataFrame(listed).to_csv(tmp_path / "m.csv", index=False)
    manifest = Manifest.read(tmp_path / "m.csv")
    limits: dict[int, Callable[[], object]] = {
        150: lambda: manifest.sha256,
        160: lambda: manifest.write(tmp_path / "n.csv"),
        400: manifest.describe,
        500: lambda: scan("table", tmp_path / "m.csv"),
    }
    for most, work in limits.items():
        work()  # what it loads and keeps once does not count
        tracemalloc.start()
        try:
            work()
            assert tracemalloc.get_traced_memory()[1] < most * rows
        finally:
            tracemalloc.stop()
