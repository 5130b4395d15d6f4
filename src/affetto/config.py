"""Settings: strict models, their YAML files, and overrides such as ``train.epochs=3``."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from affetto.errors import ConfigError, unknown

_MOST_VALUES = 1_000_000  # of a YAML file, each counted as often as its aliases stand for it


class Settings(BaseModel):
    """A frozen group of settings in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


SettingsType = TypeVar("SettingsType", bound=Settings)


def read(file: Path) -> dict[str, Any]:
    """Reads a YAML file of settings; a ConfigError names one that cannot be read or holds no mapping."""
    try:
        values = parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, ConfigError) as error:
        raise ConfigError(f"cannot read settings from {file}: {error}") from error
    if not isinstance(values, dict | None):
        raise ConfigError(f"{file} holds a {type(values).__name__}; a mapping of settings is needed")
    for name in values or {}:
        if not isinstance(name, str):
            raise ConfigError(f"{file} has the key {name!r}; a key must be the name of a setting")
    return values or {}


def parse(text: str) -> Any:
    """Reads YAML; a ConfigError for what is none, and for a few lines that stand for millions of values."""
    sizes: dict[int, int] = {}

    def size(value: Any) -> int:
        inner = (
            [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
        )
        if id(value) not in sizes:
            sizes[id(value)] = 1 + sum(map(size, inner))
        return sizes[id(value)]

    try:
        value = yaml.safe_load(text)
        if size(value) > _MOST_VALUES:
            raise ValueError(f"its aliases stand for {size(value):,} values; write them out, or fewer")
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"no YAML that can be used: {error}") from error
    return value


def load(model: type[SettingsType], values: Mapping[str, Any], overrides: Sequence[str] = ()) -> SettingsType:
    """Fills a settings model from values, e.g. of :func:`read`, after overrides as in :func:`override`."""
    return build(model, override(values, overrides))


def override(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the values with overrides applied: ``"a.b=value"`` each, whose value is read as YAML."""
    changed = dict(values)
    for text in overrides:
        _apply(changed, text)
    return changed


def merge(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Updates settings by others, group by group; a group with another ``name`` replaces the old one."""
    merged = dict(base)
    for key, value in other.items():
        known = merged.get(key)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            same = known.get("name") == value.get("name", known.get("name"))
            merged[key] = merge(known if same else {}, value)
        else:
            merged[key] = value
    return merged


def build(model: type[SettingsType], values: Mapping[str, Any]) -> SettingsType:
    """Fills a settings model from a mapping; a ConfigError names each key or value that does not fit."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(model, detail) for detail in error.errors())) from error


def dump(settings: Settings) -> str:
    """Returns the settings as YAML, every default written out."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _apply(values: dict[str, Any], text: str) -> None:
    path, equals, value_text = text.partition("=")
    if not equals or not path:
        raise ConfigError(f"got the override {text!r}; it must look like train.epochs=3")
    node = values
    *parents, last = path.strip().split(".")
    for name in parents:
        child = node.get(name)
        node[name] = child = dict(child) if isinstance(child, Mapping) else {}
        node = child
    try:
        value = parse(value_text)
    except ConfigError as error:
        raise ConfigError(f"got the override {text!r}; its value is {error}") from error
    if isinstance(value, str):  # YAML 1.1 reads 1e-3 as text
        with suppress(ValueError):
            value = float(value)
    node[last] = value


def _explain(model: type[BaseModel], detail: Any) -> str:
    """Words one error of pydantic, whose locations hold keys and the tags of unions."""
    *groups, last = detail["loc"] or ("",)
    shown: list[str] = []
    candidates = [model]
    for part in groups:
        if isinstance(part, int):  # a place in a tuple
            shown.append(str(part))
        elif len(candidates) > 1:  # one of several groups: next comes its tag
            candidates = [group for group in candidates if group.model_fields["name"].default == part]
        else:
            shown.append(part)
            fields = candidates[0].model_fields if candidates else {}
            candidates = _inside(fields[part].annotation) if part in fields else []
    path = ".".join([*shown, str(last)])
    if detail["type"] == "missing":
        return f"{path} is missing"
    if detail["type"] != "extra_forbidden":
        return f"{path}: got {detail['input']!r}; {detail['msg']}"
    names = candidates[0].model_fields if candidates else ()
    return unknown("setting", path, [".".join([*shown, name]) for name in names])


def _inside(annotation: Any) -> list[type[BaseModel]]:
    """Returns the settings models inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _inside(inner)]
