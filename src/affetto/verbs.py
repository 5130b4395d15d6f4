"""Settings of every verb, composed as the command line does it."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from affetto.config import load, merge, read
from affetto.errors import ConfigError, unknown

if TYPE_CHECKING:
    from affetto.corpora.manifest import Manifest

Utterances: TypeAlias = "str | Path | Manifest"

_MAKERS = {  # functions with defaults that depend on each other, or models
    "pretrain": "affetto.pretraining.settings:pretrain_settings",
    "finetune": "affetto.finetuning.settings:finetune_settings",
    "annotate speakers": "affetto.annotation.run_speakers:SpeakerSettings",
    "annotate clusters": "affetto.annotation.clusters:AnnotateClustersSettings",
    "annotate intensity": "affetto.intensity.sources:IntensitySettings",
    "analyse clusters": "affetto.analysis.comparison:AnalyseSettings",
    "analyse layers": "affetto.analysis.layers:layers_settings",
}


def settings(verb: str, file: str | Path | None = None, overrides: Sequence[str] = (), **given: Any) -> Any:
    """Composes the settings of a verb: its defaults, then the file, then keywords, then the overrides.

    Args:
        verb: ``pretrain``, ``finetune``, ``annotate speakers`` (or ``clusters``, ``intensity``), ``analyse
            clusters`` (or ``layers``).
        file: a YAML file of settings.
        overrides: words as on the command line, ``"train.epochs=3"``.
        given: settings by name; None counts as not given. ``encoder="cnn"`` names the recipe of ``finetune``.
    """
    if verb not in _MAKERS:
        raise ConfigError(unknown("verb with settings", verb, _MAKERS))
    module, _, name = _MAKERS[verb].partition(":")
    make, path = getattr(import_module(module), name), Path(file) if file else None
    if not isinstance(make, type):
        return make(file=path, overrides=tuple(overrides), **given)
    known = {key: value for key, value in given.items() if value is not None}
    return load(make, merge(read(path) if path else {}, known), overrides)
