from collections.abc import Callable
from pathlib import Path

import pytest

from affetto.corpora import scan
from affetto.errors import ManifestError

FIRST = (
    "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"
    "id10001\tA.J._Buckley\tm\tIreland\tdev\nid10270\tEartha_Kitt\tf\tUSA\ttest\n"
)
SECOND = "VoxCeleb2 ID ,VGGFace2 ID ,Gender ,Set \nid00012 ,n000012 ,m ,dev \nid00017 ,n000017 ,f ,test \n"
ONE = ("voxceleb1", "vox1_meta.csv", FIRST, "id10001", "id10270")
TWO = ("voxceleb2", "vox2_meta.csv", SECOND, "id00012", "id00017")
BOTH = pytest.mark.parametrize(("corpus", "name", "table", "man", "woman"), [ONE, TWO])


@BOTH
def test_columns_come_from_folders_and_the_table(
    corpus: str, name: str, table: str, man: str, woman: str, tmp_path: Path, record: Callable[..., Path]
) -> None:
    (tmp_path / name).write_text(table)
    for speaker, video in ((man, "1zcIwhmdeo4"), (woman, "-_x"), (woman, "7gW")):
        record(tmp_path / "wav" / speaker / video / "00001.wav")
    manifest = scan(corpus, tmp_path)
    assert (manifest.errors, manifest.notes, manifest.labels) == ((), (), [])
    rows = {row["key"]: row for row in manifest.table.to_dict("records")}
    assert set(rows) == {f"{man}_1zcIwhmdeo4_00001", f"{woman}_-_x_00001", f"{woman}_7gW_00001"}
    one, other = rows[f"{man}_1zcIwhmdeo4_00001"], rows[f"{woman}_-_x_00001"]
    assert (one["speaker"], one["gender"], one["session"]) == (man, "male", "1zcIwhmdeo4")
    assert (other["speaker"], other["gender"], other["session"]) == (woman, "female", "-_x")
    assert (one["split"], other["split"]) == ("dev", "test")


@BOTH
def test_defects_are_told(
    corpus: str, name: str, table: str, man: str, woman: str, tmp_path: Path, record: Callable[..., Path]
) -> None:
    record(tmp_path / "sounds" / man / "7gW" / "00001.wav")
    record(tmp_path / "sounds" / "id99999" / "7gW" / "00001.wav")
    record(tmp_path / "sounds" / man / "holiday.wav")
    (tmp_path / "sounds" / man / "7gW" / "00002.wav").write_bytes(b"no sound")
    manifest = scan(corpus, tmp_path)
    assert manifest.keys == [f"{man}_7gW_00001"]
    assert manifest.table["gender"].tolist() == [None]
    assert {Path(file).name for file, _ in manifest.errors} == {"00001.wav", "holiday.wav", "00002.wav"}
    assert manifest.notes == (f"{name} is absent: gender and split stay empty",)
    (tmp_path / name).write_text(table.replace("Gender", "Sex"))
    with pytest.raises(ManifestError, match=rf"{name} lacks the columns Gender"):
        scan(corpus, tmp_path)
