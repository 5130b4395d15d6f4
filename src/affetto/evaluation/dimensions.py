"""Dimensional emotion: how far told values agree with those of the raters, and the report that says so.

The predictions table of a run with dimensions has, for each dimension D, the columns ``truth_D`` and ``D`` in
place of classes; the rest is as in :mod:`affetto.evaluation.predictions`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from affetto import pages as page
from affetto import plots
from affetto.errors import ManifestError
from affetto.evaluation.bootstrap import (
    Difference,
    Interval,
    Tally,
    difference,
    draw_speakers,
    interval,
    same_utterances,
    tally_sums,
)
from affetto.evaluation.guard import STAMP, check_leaks
from affetto.evaluation.metrics import Score
from affetto.evaluation.predictions import scored

_NEEDED = ("key", "speaker", "part", "fold", "seed")
_DRAWS = 2000


def ccc(truth: ArrayLike, told: ArrayLike) -> NDArray[np.float64]:
    """Lin's concordance of each column of two arrays ``(N, K)``: ``(K,)``, 0 where nothing varies.

    Lin (1989), "A concordance correlation coefficient to evaluate reproducibility", Biometrics 45.
    """
    return _ccc_of(_moments(np.asarray(truth, np.float64), np.asarray(told, np.float64)).sum(0))


def mean_ccc(truth: ArrayLike, told: ArrayLike) -> float:
    """The mean of :func:`ccc` over the columns."""
    return float(ccc(truth, told).mean())


@dataclass(frozen=True)
class DimensionReport:
    """What a run is worth that tells dimensions; made by :func:`summarise_dimensions`.

    Attributes:
        method: name of the run.
        protocol: name of the protocol.
        dimensions: the K dimensions in order.
        seeds: the seeds that were averaged.
        utterances: how many were scored, each counted once.
        speakers: how many speakers they are from.
        speaker_dependent: speakers are shared between parts; stamped on everything.
        scores: a dimension, or "mean" -> concordance and interval.
        errors: a dimension -> root mean square error, on the raters' scale, the mean over seeds.
        values: truth and what was told of the first seed, ``(N, K)`` each, for the figure.
        against: name of the run it is compared with.
        differences: a dimension, or "mean" -> paired difference of concordance.
        notes: what the reader must know.
    """

    method: str
    protocol: str
    dimensions: tuple[str, ...]
    seeds: tuple[str, ...]
    utterances: int
    speakers: int
    speaker_dependent: bool
    scores: dict[str, Interval]
    errors: dict[str, float]
    values: tuple[NDArray[np.float64], NDArray[np.float64]]
    against: str | None
    differences: dict[str, Difference]
    notes: tuple[str, ...]

    def markdown(self) -> str:
        """Returns the report as Markdown; its picture is a file beside it."""
        return page.Page(f"{self.method} on {self.protocol}", self._blocks(b"")).markdown()

    def write(self, folder: str | Path) -> None:
        """Writes report.md, report.html and the figure into a folder."""
        stamp = STAMP if self.speaker_dependent else None
        drawn = plots.to_png(plots.agreement(*self.values, self.dimensions, stamp=stamp))
        page.Page(f"{self.method} on {self.protocol}", self._blocks(drawn)).write(Path(folder))

    def _blocks(self, png: bytes) -> list[page.Block]:
        mark = f"{STAMP}: " if self.speaker_dependent else ""
        what = (
            f"{self.utterances:,} test utterances of {self.speakers} speakers; "
            f"seeds {', '.join(self.seeds)}, averaged."
        )
        rows = [
            [name, page.decimal(*score), page.decimal(self.errors.get(name))]
            for name, score in self.scores.items()
        ]
        caption = f"{mark}Concordance (CCC) with the raters, with the 95 % interval over speakers"
        found: list[page.Block] = [
            page.Text(what),
            page.Table(["dimension", "CCC", "error"], rows, caption, [False, True, True]),
            page.Text("The error is the root mean square, on the scale of the raters."),
            *(page.Text(note) for note in self.notes),
        ]
        if self.differences:
            rows = [
                [name, page.decimal(gap.value, gap.low, gap.high, sign=True)]
                for name, gap in self.differences.items()
            ]
            caption = f"{mark}CCC above {self.against}, on the same utterances and the same drawn speakers"
            found += [page.Heading(f"Against {self.against}")]
            found += [page.Table(["dimension", "difference"], rows, caption, [False, True])]
        alt = "What was told against what the raters said, a panel a dimension"
        return [*found, page.Picture("agreement.png", alt, png)]


def summarise_dimensions(
    predictions: pd.DataFrame,
    protocol: Mapping[str, Any],
    meta: Mapping[str, Any],
    *,
    method: str,
    against: pd.DataFrame | None = None,
    against_name: str = "the other run",
) -> DimensionReport:
    """Scores a table of told dimensions; only rows whose part is "test" count.

    Args:
        predictions: the table.
        protocol: fields of the protocol: ``name``, ``dimensions``, ``average``, ``caveats`` and
            ``speaker_dependent``.
        meta: what the run says about itself (see :mod:`affetto.evaluation.guard`).
        method: name of the run.
        against: predictions of another run on the same utterances, for a paired test.
        against_name: its name.

    Raises:
        LeakError: when a test speaker was seen with labels, or something was chosen on test.
        ManifestError: when the table cannot be scored, or does not fit ``against``.
    """
    names = tuple(protocol["dimensions"])
    average = str(protocol.get("average") or "mean")
    dependent = bool(meta.get("speaker_dependent") or protocol.get("speaker_dependent"))
    table = _checked(predictions, names)
    notes = [*check_leaks(table, dict(meta), dependent), *map(str, protocol.get("caveats") or ())]
    rows = scored(table)
    counted = _tally(rows, names)
    if len(counted.speakers) < 2:
        notes.append("All test rows are of one speaker: an interval over speakers cannot be given.")
    measures: dict[str, Score] = {name: _of(number) for number, name in enumerate(names)}
    if len(names) > 1:
        measures["mean"] = lambda sums: _ccc_of(sums).mean(-1)
    differences: dict[str, Difference] = {}
    if against is not None:
        alike = ("speaker", *(f"truth_{name}" for name in names))
        left, right = same_utterances(rows, scored(_checked(against, names)), False, alike)
        speakers = sorted({*left["speaker"], *right["speaker"]})
        weights = draw_speakers(len(speakers), _DRAWS, 0)
        tallies = [_tally(part, names, speakers) for part in (left, right)]
        differences = {
            name: difference(tallies[0], tallies[1], weights, measure, average)
            for name, measure in measures.items()
        }
    truth, told = _values(rows, names)
    notes += [
        f"{name} is the same in all test rows: its concordance is 0 by definition, and pulls the mean down."
        for name, column in zip(names, truth.T, strict=True)
        if np.ptp(column) == 0
    ]
    first = (rows["seed"] == rows["seed"].iloc[0]).to_numpy()
    squares = pd.DataFrame((truth - told) ** 2).groupby(rows["seed"].to_numpy()).mean()
    return DimensionReport(
        method=method,
        protocol=str(protocol["name"]),
        dimensions=names,
        seeds=tuple(str(value) for value in sorted(rows["seed"].unique())),
        utterances=rows["key"].nunique(),
        speakers=len(counted.speakers),
        speaker_dependent=dependent,
        scores={name: interval(counted, measure, average) for name, measure in measures.items()},
        errors=dict(zip(names, np.sqrt(squares).mean().tolist(), strict=True)),
        values=(truth[first], told[first]),
        against=against_name if against is not None else None,
        differences=differences,
        notes=tuple(notes),
    )


def _checked(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    needed = [*_NEEDED, *(column for name in names for column in (f"truth_{name}", name))]
    if missing := [name for name in needed if name not in table]:
        raise ManifestError(f"the predictions table lacks {', '.join(missing)}")
    checked = table.reset_index(drop=True).assign(
        key=table["key"].astype(str).to_numpy(), speaker=table["speaker"].astype(str).to_numpy()
    )
    if checked.duplicated(["seed", "fold", "key"]).any():
        raise ManifestError("an utterance stands twice in one fold and seed of the predictions table")
    bad = ~np.isfinite(checked[needed[len(_NEEDED) :]].to_numpy(np.float64)).all(1)
    if bad.any():
        raise ManifestError(
            f"{int(bad.sum())} predictions are no numbers, the first of {checked['key'][bad].iloc[0]}"
        )
    return checked


def _tally(rows: pd.DataFrame, names: Sequence[str], speakers: Sequence[str] | None = None) -> Tally:
    return tally_sums(rows, names, _moments(*_values(rows, names)), speakers)


def _values(rows: pd.DataFrame, names: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    truth = rows[[f"truth_{name}" for name in names]].to_numpy(np.float64)
    return truth, rows[list(names)].to_numpy(np.float64)


def _moments(truth: NDArray[np.float64], told: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns what adds up over rows, ``(N, K, 6)``: ones, values, squares and products, from one centre."""
    centre = truth.mean(0)
    x, y = truth - centre, told - centre
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)


def _ccc_of(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Concordance from such sums, ``(..., K, 6) -> (..., K)``; NaN where no row is."""
    count = sums[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y, xx, yy, xy = np.moveaxis(sums[..., 1:] / count[..., None], -1, 0)
        whole = (xx - x * x) + (yy - y * y) + (x - y) ** 2
        varies = whole > 1e-12 * (xx + yy)  # what is left of differences of equal numbers is no variance
        found: NDArray[np.float64] = np.where(varies, 2 * (xy - x * y) / whole, 0.0)
    return np.where(count > 0, found, np.nan)


def _of(number: int) -> Score:
    return lambda sums: _ccc_of(sums)[..., number]
