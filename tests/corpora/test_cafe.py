import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from affetto.audio import read_info
from affetto.corpora import scan
from affetto.errors import AudioError


def test_columns_come_from_the_name(tmp_path: Path, record: Callable[..., Path]) -> None:
    record(tmp_path / "Colère" / "Fort" / "01-C-2-1.wav")
    record(tmp_path / "D‚ago–t" / "Faible" / "04-D-1-6.aiff")
    record(tmp_path / "Neutre" / "11-N-1-3.wav")
    record(tmp_path / "Neutre" / "12-N-3.wav")
    manifest = scan("cafe", tmp_path)
    columns = ["key", "speaker", "emotion", "gender", "age", "intensity_level", "text", "language"]
    assert manifest.table[columns].values.tolist() == [
        ["01-C-2-1", "01", "anger", "male", 46, "high", "Un cheval fou dans mon jardin", "fr"],
        ["04-D-1-6", "04", "disgust", "female", 50, "low", "Six ours aimants domestiqués", "fr"],
        ["11-N-1-3", "11", "neutral", "male", 35, None, "Trois cygnes aveugles au bord du lac", "fr"],
        ["12-N-3", "12", "neutral", "female", 37, None, "Trois cygnes aveugles au bord du lac", "fr"],
    ]
    assert manifest.errors == ()


def test_strange_files_are_named(tmp_path: Path, record: Callable[..., Path]) -> None:
    for name in ("02-J-1-2", "hello", "13-C-1-1", "01-X-1-1", "01-C-3-1", "01-C-1", "01-C-1-7"):
        record(tmp_path / f"{name}.wav")
    (tmp_path / "01-P-1-1.wav").write_bytes(b"RIFF")
    manifest = scan("cafe", tmp_path)
    assert manifest.keys == ["02-J-1-2"]
    errors = {Path(file).stem: message for file, message in manifest.errors}
    assert set(errors) == {"hello", "13-C-1-1", "01-X-1-1", "01-C-3-1", "01-C-1", "01-C-1-7", "01-P-1-1"}
    assert "unknown actor '13'" in errors["13-C-1-1"]
    assert "unknown emotion 'X'" in errors["01-X-1-1"]
    assert "unknown intensity '3'" in errors["01-C-3-1"]
    assert "unknown intensity ''" in errors["01-C-1"]
    assert "unknown sentence '7'" in errors["01-C-1-7"]


def test_a_name_that_is_no_utf_8_is_one_error(tmp_path: Path, record: Callable[..., Path]) -> None:
    record(tmp_path / "one" / "01-C-2-1.wav")
    garbled = os.fsencode(tmp_path) + b"/Col\x8are"
    os.mkdir(garbled)
    shutil.copy(tmp_path / "one" / "01-C-2-1.wav", garbled + b"/02-C-2-1.wav")
    manifest = scan("cafe", tmp_path)
    assert manifest.keys == ["01-C-2-1"]
    assert manifest.errors == (("Col?re/02-C-2-1.wav", "its name is not UTF-8; rename it"),)
    with pytest.raises(AudioError, match="not UTF-8"):
        read_info(os.fsdecode(garbled + b"/02-C-2-1.wav"))
