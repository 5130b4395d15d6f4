from collections.abc import Callable
from pathlib import Path

from affetto.corpora import scan

FOLDER = Path("Raw JL corpus (unchecked and unannotated)", "JL(wav+txt)")


def test_columns_come_from_the_name(tmp_path: Path, record: Callable[..., Path]) -> None:
    record(tmp_path / FOLDER / "female1_angry_10a_1.wav").with_suffix(".txt").write_text("Carl leaps.\n")
    record(tmp_path / FOLDER / "male2_apologetic_3b_2.wav")
    record(tmp_path / str(FOLDER).lower() / "female1_angry_10a_1.wav")
    manifest = scan("jl-corpus", tmp_path)
    assert (manifest.errors, manifest.notes) == ((), ())
    angry, sorry = manifest.table.to_dict("records")
    assert (angry["speaker"], angry["gender"], angry["emotion"]) == ("female1", "female", "anger")
    assert (angry["session"], angry["take"], angry["language"]) == ("female1a", 1, "en")
    assert (angry["text"], sorry["text"]) == ("Carl leaps.", None)
    assert (sorry["speaker"], sorry["gender"], sorry["emotion"]) == ("male2", "male", "apology")
    assert (sorry["session"], sorry["take"]) == ("male2b", 2)


def test_defects_are_told(tmp_path: Path, record: Callable[..., Path]) -> None:
    for name in ("male1_sad_1a_1", "male1_jealous_1a_1", "male3_sad_1a_1", "holiday"):
        record(tmp_path / "sounds" / f"{name}.wav")
    (tmp_path / "sounds" / "male1_happy_1a_1.wav").write_bytes(b"no sound")
    manifest = scan("jl-corpus", tmp_path)
    assert manifest.keys == ["male1_sad_1a_1"]
    errors = {Path(file).stem: message for file, message in manifest.errors}
    assert set(errors) == {"male1_jealous_1a_1", "male3_sad_1a_1", "holiday", "male1_happy_1a_1"}
    assert "unknown emotion 'jealous'" in errors["male1_jealous_1a_1"]
    assert "every folder was searched" in manifest.notes[0]
