"""``evaluate``: scores the test part of a run, once, beside the published figures of its protocol."""

from pathlib import Path
from typing import Any

import pandas as pd

from affetto.errors import ConfigError, ManifestError, RunError, unknown
from affetto.evaluation.dimensions import DimensionReport, summarise_dimensions
from affetto.evaluation.enrolment import enrolment_curve, normal_count
from affetto.evaluation.predictions import ENROLLED, PREDICTIONS, read_predictions
from affetto.evaluation.report import Report, summarise
from affetto.runs import read_meta


def evaluate(
    run: str | Path,
    against: str | Path | None = None,
    *,
    enrolment: int | str = 0,
    mix: str = "random",
    name: str | None = None,
) -> Report | DimensionReport:
    """Scores a finished run of ``finetune``: classes, or dimensions where its protocol asks for them.

    Args:
        run: the run folder.
        against: another run on the same protocol, for a paired test.
        enrolment: score the predictions under so many enrolment utterances a speaker, or "all" others; the
            comparison then is with none, on the utterances that both score.
        mix: which utterances were enrolled: "random", or "EMOTION only".
        name: what to call the run; None for its encoder.

    Raises:
        RunError: when the folder holds no finished run.
        ConfigError: for a mix without a number.
        LeakError: when a test speaker was seen with labels, or anything was chosen on test.
    """
    folder = Path(run)
    meta = read_meta(folder, "finetune")
    dimensions = bool(meta["protocol"].get("dimensions"))
    rivals = None if against is None else read_meta(Path(against), "finetune")
    if rivals is not None and dimensions != bool(rivals["protocol"].get("dimensions")):
        raise ConfigError(f"of {folder} and {against}, one tells classes and the other dimensions")
    if not dimensions:
        return evaluate_classes(run, against, enrolment=enrolment, mix=mix, name=name)
    if normal_count(enrolment) != 0 or mix != "random":
        raise ConfigError("a recogniser of dimensions enrols nobody; leave out --enrolment and --mix")
    rival = None if against is None else Path(against)
    return summarise_dimensions(
        read_predictions(folder / PREDICTIONS),
        meta["protocol"],
        _for_guard(meta),
        method=name or str(meta["method"]),
        against=None if rival is None else read_predictions(rival / PREDICTIONS),
        against_name="" if rivals is None else str(rivals["method"]),
    )


def evaluate_classes(
    run: str | Path,
    against: str | Path | None = None,
    *,
    enrolment: int | str = 0,
    mix: str = "random",
    name: str | None = None,
) -> Report:
    """Scores a finished run that tells classes; see :func:`evaluate`."""
    folder = Path(run)
    meta = read_meta(folder, "finetune")
    protocol = meta["protocol"]
    if mix != "random" and normal_count(enrolment) == 0:
        raise ConfigError(
            f"got the mix {mix!r} without enrolment; say how many were enrolled, e.g. --enrolment 10"
        )
    name = name or str(meta["method"])
    plain = read_predictions(folder / PREDICTIONS)
    curve = None
    table, other, other_name = plain, None, None
    if (folder / ENROLLED).exists():
        enrolled = read_predictions(folder / ENROLLED)
        labels = [str(column).removeprefix("p_") for column in plain if str(column).startswith("p_")]
        curve = enrolment_curve(enrolled, average=protocol["average"], labels=labels)
        if normal_count(enrolment) != 0:
            table, other = _enrolled(enrolled, enrolment, mix), _enrolled(enrolled, 0, "random")
            other_name = f"{name}, no enrolment"
            name = name if mix == "random" else f"{name}, {mix}"
            other = other.drop(columns="enrolment")
    elif normal_count(enrolment) != 0:
        raise RunError(f"{folder} was made without enrolment; run finetune without --no-enrolment")
    if against is not None:
        other_folder = Path(against)
        other, other_name = (
            read_predictions(other_folder / PREDICTIONS),
            str(read_meta(other_folder, "finetune")["method"]),
        )
    return summarise(
        table,
        protocol,
        _for_guard(meta),
        method=name,
        against=other,
        against_name=other_name,
        only_shared=normal_count(enrolment) != 0,
        curve=curve,
    )


def _enrolled(table: pd.DataFrame, enrolment: int | str, mix: str) -> pd.DataFrame:
    counts = [normal_count(value) for value in table["enrolment"]]
    chosen = table[(pd.Series(counts, index=table.index) == normal_count(enrolment)) & (table["mix"] == mix)]
    if chosen.empty:
        there = sorted({f"{count} {kind}" for count, kind in zip(counts, table["mix"], strict=True)})
        raise ManifestError(unknown("enrolment (number and mix)", f"{enrolment} {mix}", there))
    return chosen.drop(columns="mix").reset_index(drop=True)


def _for_guard(meta: dict[str, Any]) -> dict[str, Any]:
    guarded = dict(meta)
    if meta.get("weights_from_elsewhere"):
        guarded["speakers_seen_without_labels"] = "unknown"
    return guarded
