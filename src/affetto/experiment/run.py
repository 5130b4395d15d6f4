"""``experiment``: a table of results from one file, run by run; it continues where it stopped."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pydantic import Field, field_validator

from affetto.config import Settings, build, merge, read
from affetto.corpora.manifest import Manifest
from affetto.errors import ConfigError, unknown
from affetto.evaluation.predictions import ENROLLED
from affetto.evaluation.report import Report
from affetto.evaluation.run import evaluate
from affetto.experiment.results import Result, draw_results, drawn, further_metrics, write_results
from affetto.finetuning.run import finetune
from affetto.finetuning.settings import FinetuneSettings, finetune_settings
from affetto.plots import loss_curves, score_along
from affetto.pretraining.run import pretrain
from affetto.pretraining.settings import PretrainSettings, pretrain_settings
from affetto.progress import progress
from affetto.protocols.protocol import load_protocol
from affetto.runs import RunFolder, read_meta

# Columns of a log that are no losses.
NO_LOSSES = ("epoch", "score", "learning_rate", "hidden_share")

Trainer = tuple[Callable[..., FinetuneSettings], Callable[..., RunFolder]]
"""What makes settings of names, and what trains by them."""


def finetuner(head: object) -> Trainer:
    """Returns the trainer of ``finetune``, whatever head is asked for."""
    return finetune_settings, finetune


class Row(Settings):
    """One method of an experiment; ``docs/evaluation.md`` explains the keys."""

    method: str
    settings: dict[str, Any] = Field(default_factory=dict)
    pretrained: str | None = None
    against: tuple[str, ...] = ()
    enrolment: tuple[int | str, ...] = ()
    skewed: bool = False
    at: float | None = None

    @field_validator("against", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value or ()


class Experiment(Settings):
    """What an experiment file holds; ``docs/evaluation.md`` explains the keys."""

    title: str
    settings: dict[str, Any] = Field(default_factory=dict)
    pretraining: dict[str, dict[str, Any]] = Field(default_factory=dict)
    ways: dict[str, dict[str, Any]] = Field(default_factory=dict)
    label_fractions: dict[float, dict[str, dict[str, Any]]] = Field(default_factory=dict)
    rows: tuple[Row, ...] = Field(min_length=1)
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ("macro_f1",)
    skewed_size: int = 10
    axis: str | None = None
    curves: tuple[str, ...] = ()

    @field_validator("columns")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in further_metrics():
                raise ValueError(unknown("metric", name, further_metrics()))
        return value

    def of_pretraining(self, name: str) -> PretrainSettings:
        """Returns the settings of a pretraining."""
        return pretrain_settings(**merge(self.pretraining.get("base", {}), self.pretraining[name]))


def experiment(
    file: str | Path,
    manifest: str | Path | Manifest,
    out: str | Path,
    runs: str | Path,
    trainer: Callable[[object], Trainer] = finetuner,
) -> Path:
    """Runs what is missing of an experiment and draws its table.

    Rows are written as they come: an experiment that was stopped continues where it was.

    Args:
        file: the experiment file; its name is the name of the table.
        manifest: the utterances.
        out: folder of the tables.
        runs: folder of the run folders.
        trainer: returns what trains a head by its name.

    Returns:
        The page that was drawn.
    """
    file = Path(file)
    plan = build(Experiment, read(file))
    manifest = Manifest.of(manifest)
    check(plan, trainer)
    table = Path(out) / f"{file.stem}.json"
    work = _Work(plan, manifest, Path(runs) / file.stem, trainer)
    extra = {
        "command": f"affetto experiment {file.as_posix()} --manifest MANIFEST",
        "manifest_sha256": manifest.sha256,
    }
    columns = (*plan.columns, *(["way"] if plan.ways else []))
    losses_of = "Loss of each pretraining over its epochs, seeds averaged"
    # Row by row: once one is done, nothing needs its encoders any more.
    jobs = [(fraction, row) for row in plan.rows for fraction in sorted(plan.label_fractions) or (None,)]
    for fraction, row in progress(jobs, file.stem):
        rows = write_results(table, work.results(row, fraction, extra))
        more = drawn(work.losses(), table, "losses", losses_of)
        more |= drawn(_along_axis(plan, rows), table, "axis", f"UAR along {plan.axis}")
        how: dict[str, Any] = {"notes": plan.notes, "columns": columns, "curves": plan.curves}
        page = draw_results(table, title=plan.title, **how, figure=True, more=more)
    return page


def check(plan: Experiment, trainer: Callable[[object], Trainer] = finetuner) -> None:
    """Refuses rows that refer to what is not there, before anything is run."""
    names = [row.method for row in plan.rows]
    for place, row in enumerate(plan.rows):
        for other in row.against:
            if other not in names[:place]:
                raise ConfigError(unknown("earlier method", other, names[:place]))
        if row.pretrained is not None and row.pretrained not in plan.pretraining:
            raise ConfigError(unknown("pretraining", row.pretrained, plan.pretraining))
        for way in plan.ways.values():
            given = {**plan.settings, **way, **row.settings}
            trainer(given.get("head"))[0](**given)
        for way in plan.ways.values() or [{}]:
            protocol = {**plan.settings, **way, **row.settings}.get("protocol")
            if protocol is not None and load_protocol(protocol).dimensions:
                raise ConfigError(
                    f"{plan.title}: tables are of UAR, and {protocol} asks for dimensions; run affetto "
                    "finetune and affetto evaluate instead"
                )
    for name in plan.pretraining:
        if name != "base":
            plan.of_pretraining(name)


def _along_axis(plan: Experiment, rows: Sequence[Result]) -> Figure | None:
    """Draws UAR along the experiment's axis, where it has one."""
    found = {row.method: row for row in rows}
    along = [(row.at, found[row.method]) for row in plan.rows if row.at is not None and row.method in found]
    if plan.axis is None or not along:
        return None
    level = next((row.method for row in plan.rows if row.at is None and row.method in found), None)
    named = None if level is None else (level, found[level].uar)
    scores = np.array([row.ends for _, row in along], np.float64)
    return score_along([at for at, _ in along], scores, axis=plan.axis, level=named)


class _Work:
    """The runs of an experiment, made when they are asked for."""

    def __init__(
        self, plan: Experiment, manifest: Manifest, runs: Path, trainer: Callable[[object], Trainer]
    ) -> None:
        self.plan, self.manifest, self.runs, self.trainer = plan, manifest, runs, trainer
        self.made: set[Path] = set()  # runs and pretrainings that are known to be finished

    def results(self, row: Row, fraction: float | None, extra: dict[str, Any]) -> list[Result]:
        """Runs one method with one share of the labels and scores it."""
        extra = {**extra, "label_fraction": self._given(row, fraction, "").get("label_fraction", 1.0)}
        rows = []
        for way in self.plan.ways:
            report = evaluate(self._run(row, fraction, way), name=f"{row.method}, {way}")
            rows.append(report.row(**extra, dev_uar=self._dev_uar(row, fraction, way)))
        chosen = self._chosen(row, fraction)
        if self.plan.ways:
            extra |= {"way": chosen, "dev_uar": self._dev_uar(row, fraction, chosen)}
        folder = self._run(row, fraction, chosen)
        rivals = {
            other.method: self._run(other, fraction, self._chosen(other, fraction))
            for other in self.plan.rows
            if other.method in row.against
        }
        reports = {name: evaluate(folder, rival, name=row.method) for name, rival in rivals.items()}
        named: dict[str, Any] = {"against": row.against[0]} if reports else {}
        if len(reports) > 1:
            named["versus"] = _gaps(reports)
        report = reports[row.against[0]] if reports else evaluate(folder, name=row.method)
        rows.append(report.row(**extra, **named))
        mixes = [(count, "random") for count in row.enrolment]
        if row.skewed:
            mixes += [(self.plan.skewed_size, f"{label} only") for label in report.labels]
        how: list[dict[str, Any]] = [{"enrolment": count, "mix": mix} for count, mix in mixes]
        enrolled = {name: rival for name, rival in rivals.items() if (rival / ENROLLED).exists()}
        for each in how:
            alike = enrolled if each["mix"] == "random" else {}
            gaps = _gaps({name: evaluate(folder, rival, **each) for name, rival in alike.items()})
            versus = {"versus": gaps} if gaps else {}
            rows.append(evaluate(folder, **each, name=row.method).row(**extra, **versus))
        return [Result.model_validate(each) for each in rows]

    def losses(self) -> Figure | None:
        """Draws the losses of finished pretrainings, the mean of each epoch."""
        found: dict[str, dict[str, list[float]]] = {}
        for name in self.plan.pretraining:
            folder = RunFolder(self.runs / "pretraining" / _slug(name), "pretrain")
            logs = sorted(folder.path.glob("seed-*/fold-*/metrics.jsonl")) if folder.done else []
            if logs:
                rows = pd.concat([pd.read_json(log, lines=True) for log in logs]).groupby("epoch").mean()
                for loss in [column for column in rows if column not in NO_LOSSES]:
                    found.setdefault(str(loss), {})[name] = rows[loss].tolist()
        return loss_curves(found) if found else None

    def _given(self, row: Row, fraction: float | None, way: str) -> dict[str, Any]:
        given = merge(merge(self.plan.settings, self.plan.ways.get(way, {})), row.settings)
        if fraction is None:
            return given
        return {**merge(given, self.plan.label_fractions[fraction].get(way, {})), "label_fraction": fraction}

    def _run(self, row: Row, fraction: float | None, way: str) -> Path:
        """Returns the finished run of a method, after making it where it is missing."""
        given, parts = self._given(row, fraction, way), [_slug(row.method)]
        if fraction is not None:
            parts.append(f"labels-{100 * fraction:g}")
        if row.pretrained is not None:
            pretrained = self.runs / "pretraining" / _slug(row.pretrained)
            if pretrained not in self.made:
                pretrain(self.manifest, self.plan.of_pretraining(row.pretrained), pretrained)
                self.made.add(pretrained)
            given["encoder"] = str(pretrained)  # the folder has its name and shape
        folder = self.runs.joinpath(*parts, *([_slug(way)] if way else []))
        if folder not in self.made:
            settings, train = self.trainer(given.get("head"))
            train(self.manifest, settings(**given), folder)
            self.made.add(folder)
        return folder

    def _chosen(self, row: Row, fraction: float | None) -> str:
        """Returns the way that does best on dev."""
        return max(self.plan.ways or ("",), key=lambda way: self._dev_uar(row, fraction, way))

    def _dev_uar(self, row: Row, fraction: float | None, way: str) -> float:
        choices = read_meta(self._run(row, fraction, way), "finetune")["choices"].values()
        return float(np.mean([choice["dev_uar"] for choice in choices]))


def _gaps(reports: dict[str, Report]) -> dict[str, list[float | None]]:
    gaps = {name: report.differences["uar"] for name, report in reports.items()}
    return {name: [gap.value, gap.low, gap.high] for name, gap in gaps.items()}


def _slug(method: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in method.lower()).split())
