"""Settings are strict: an unknown key, a wrong type or a value out of range is named."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from affetto import config
from affetto.config import Settings
from affetto.errors import ConfigError


class Small(Settings):
    name: Literal["small"] = "small"
    width: int = Field(8, ge=1)


class Deep(Settings):
    name: Literal["deep"] = "deep"
    depth: int = 2
    inner: Annotated[Small, Field()] = Small()


class Several(Settings):
    name: Literal["several"] = "several"
    parts: tuple[Annotated[Small | Deep, Field(discriminator="name")], ...] = ()


class Loop(Settings):
    epochs: int = 3
    learning_rate: float = 1e-3
    speed: tuple[float, float] | None = None


class Whole(Settings):
    train: Loop = Loop()
    shape: Annotated[Small | Deep | Several, Field(discriminator="name")] = Small()
    label: str = "anger"


def test_values_then_overrides_are_laid_over_the_defaults() -> None:
    loaded = config.load(Whole, {"train": {"epochs": 5}}, ["train.learning_rate=3e-4", "label=fear"])
    assert loaded == Whole(train=Loop(epochs=5, learning_rate=3e-4), label="fear")
    assert config.load(Whole, {}) == Whole()


def test_values_of_overrides_are_read_as_yaml() -> None:
    assert config.load(Whole, {}, ["train.speed=[0.9, 1.1]"]).train.speed == (0.9, 1.1)
    assert config.load(Whole, {"train": {"speed": [1, 2]}}, ["train.speed=null"]).train.speed is None
    assert config.load(Whole, {}, ["train.learning_rate=1e-3"]).train.learning_rate == 0.001
    assert config.override({"a": {"b": 1, "c": 2}}, ["a.b=5"]) == {"a": {"b": 5, "c": 2}}


def test_overrides_change_nothing_that_was_passed_in() -> None:
    values = {"train": {"epochs": 5}}
    config.load(Whole, values, ["train.epochs=6"])
    assert values == {"train": {"epochs": 5}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trian": {}}, "unknown setting 'trian'; allowed: train, shape, label; did you mean 'train'?"),
        ({"train": {"epoch": 3}}, "did you mean 'train.epochs'?"),
        ({"shape": {"name": "small", "widht": 3}}, "did you mean 'shape.width'?"),
        ({"shape": {"name": "deep", "inner": {"widht": 3}}}, "did you mean 'shape.inner.width'?"),
        (
            {"shape": {"name": "several", "parts": [{"name": "deep", "depht": 3}]}},
            "unknown setting 'shape.parts.0.depht'; allowed: shape.parts.0.name, shape.parts.0.depth, "
            "shape.parts.0.inner; did you mean 'shape.parts.0.depth'?",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(Whole, values)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=many", "train.epochs: got 'many'"),
        ("shape.width=0", "greater than or equal to 1"),
        ("shape.name=smal", "'small', 'deep', 'several'"),
        ("train.epochs", "must look like train.epochs=3"),
        ("=3", "must look like train.epochs=3"),
        ("train.speed=[1", "is no YAML"),
        ("train=3", "train: got 3"),
    ],
)
def test_a_value_that_does_not_fit_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(Whole, {"shape": {"name": "small"}}, [override])
    assert message in str(caught.value)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"train.epochs.*unknown setting 'lable'"):
        config.load(Whole, {"train": {"epochs": "x"}, "lable": "fear"})


def test_a_missing_setting_is_named() -> None:
    class Needs(Settings):
        inner: str
        outer: str

    with pytest.raises(ConfigError, match=r"^outer is missing$"):
        config.load(Needs, {"inner": "given"})


def test_a_group_with_another_name_replaces_the_old_one_whole() -> None:
    base = {"shape": {"name": "small", "width": 4}, "train": {"epochs": 2}}
    assert config.merge(base, {"shape": {"name": "deep", "depth": 3}})["shape"] == {
        "name": "deep",
        "depth": 3,
    }
    assert config.merge(base, {"shape": {"width": 5}})["shape"] == {"name": "small", "width": 5}
    assert config.merge(base, {"train": {"learning_rate": 1.0}})["train"] == {
        "epochs": 2,
        "learning_rate": 1.0,
    }
    assert base["train"] == {"epochs": 2}


def test_dump_and_read_give_the_same_settings(tmp_path: Path) -> None:
    settings = Whole(shape=Several(parts=(Small(width=3), Deep())), label="überraschung")
    file = tmp_path / "config.yaml"
    file.write_text(config.dump(settings), encoding="utf-8")
    assert config.load(Whole, config.read(file)) == settings
    assert "learning_rate: 0.001" in file.read_text(encoding="utf-8")


def test_a_file_without_a_mapping_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("# only a comment\n", encoding="utf-8")
    assert config.read(file) == {}
    file.write_text("- a\n- b\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds a list"):
        config.read(file)
    file.write_text("seed: 1\n0: a\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="has the key 0; a key must be the name"):
        config.read(file)
    file.write_text("a: [1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot read settings"):
        config.read(file)
    with pytest.raises(ConfigError, match="cannot read settings"):
        config.read(tmp_path / "gone.yaml")


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Whole().label = "fear"  # type: ignore[misc]
