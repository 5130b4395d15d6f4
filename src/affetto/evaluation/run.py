"""``evaluate``: scores the test part of a run, once, with the published figures of its protocol."""

from pathlib import Path
from typing import Any

import pandas as pd

from affetto.errors import ConfigError, ManifestError, RunError, unknown
from affetto.evaluation.enrolment import enrolment_scores, normal_count
from affetto.evaluation.predictions import ENROLLED, PREDICTIONS, read_predictions
from affetto.evaluation.report import Report
from affetto.evaluation.summarise import summarise
from affetto.runs import read_meta


def evaluate(
    run: str | Path,
    against: str | Path | None = None,
    *,
    enrolment: int | str = 0,
    mix: str = "random",
    name: str | None = None,
) -> Report:
    """Scores a finished run of ``finetune``: classes, or dimensions where its protocol asks for them.

    Args:
        run: the run folder.
        against: another run on the same protocol, for a paired test.
        enrolment: score the predictions under so many enrolment utterances a speaker, or "all" others; the
            comparison then is with none, or with another run under as many, on what both score.
        mix: which utterances were enrolled: "random", or "EMOTION only".
        name: what to call the run; None for its encoder.

    Raises:
        RunError: when the folder holds no finished run of ``finetune``.
        ConfigError: for a mix without a number.
        LeakError: when a test speaker was seen with labels, or anything was chosen on test.
    """
    folder, count = Path(run), normal_count(enrolment)
    meta = read_meta(folder, "finetune")
    protocol, dimensions = meta["protocol"], bool(meta["protocol"].get("dimensions"))
    rival = None if against is None else read_meta(Path(against), "finetune")
    if rival is not None and dimensions != bool(rival["protocol"].get("dimensions")):
        raise ConfigError(f"of {folder} and {against}, one tells classes and the other dimensions")
    if dimensions and (count != 0 or mix != "random"):
        raise ConfigError("a recogniser of dimensions enrols nobody; leave out --enrolment and --mix")
    if mix != "random" and count == 0:
        raise ConfigError(
            f"got the mix {mix!r} without enrolment; say how many were enrolled, e.g. --enrolment 10"
        )
    method, other, other_name, curve = name or str(meta["method"]), None, None, None
    table = read_predictions(folder / PREDICTIONS)
    if not (table["part"] == "test").any():
        raise RunError(
            f"{folder} has no test part, as {meta['protocol']['name']} asks; there is nothing to score"
        )
    if (folder / ENROLLED).exists():
        enrolled = read_predictions(folder / ENROLLED)
        labels = [str(column).removeprefix("p_") for column in table if str(column).startswith("p_")]
        curve = enrolment_scores(enrolled, average=protocol["average"], labels=labels)
    if count != 0:
        table = _enrolled(folder, count, mix)
        other = _enrolled(folder, 0, "random").drop(columns="enrolment")
        other_name = f"{method}, no enrolment"
        method = method if mix == "random" else f"{method}, {mix}"
    if against is not None and rival is not None:
        same = (Path(against), count, mix)
        other = _enrolled(*same) if count else read_predictions(Path(against) / PREDICTIONS)
        other_name = str(rival["method"])
    if meta.get("weights_from_elsewhere"):
        meta["speakers_seen_without_labels"] = "unknown"
    how: dict[str, Any] = {"method": method, "only_shared": count != 0, "curve": curve}
    return summarise(table, protocol, meta, against=other, against_name=other_name, **how)


def _enrolled(folder: Path, count: int | str, mix: str) -> pd.DataFrame:
    """Returns the predictions of a run under one number and mix of enrolment utterances."""
    if not (folder / ENROLLED).exists():
        raise RunError(f"{folder} was made without enrolment; run finetune without --no-enrolment")
    table = read_predictions(folder / ENROLLED)
    counts = [normal_count(value) for value in table["enrolment"]]
    chosen = table[(pd.Series(counts, index=table.index) == count) & (table["mix"] == mix)]
    if chosen.empty:
        there = sorted({f"{each} {kind}" for each, kind in zip(counts, table["mix"], strict=True)})
        raise ManifestError(unknown("enrolment (number and mix)", f"{count} {mix}", there))
    return chosen.drop(columns="mix").reset_index(drop=True)
