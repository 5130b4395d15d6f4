"""``experiment``: a table of results from one file, run by run, going on where it stopped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from affetto.config import Settings, build, merge, read
from affetto.corpora.manifest import Manifest
from affetto.errors import ConfigError, unknown
from affetto.evaluation.enrolment import normal_count
from affetto.evaluation.run import evaluate_classes
from affetto.experiment.noise import with_noise
from affetto.experiment.results import Result, draw_results, read_results, write_results
from affetto.finetuning.run import finetune
from affetto.finetuning.settings import FinetuneSettings, finetune_settings
from affetto.plots import loss_curves, score_along, to_png
from affetto.pretraining.run import pretrain
from affetto.pretraining.settings import pretrain_settings
from affetto.progress import progress
from affetto.protocols.protocol import load_protocol
from affetto.runs import RunFolder, atomic_write, read_meta

NO_LOSSES = ("epoch", "score", "learning_rate", "utterances_per_second", "hidden_share")
"""Columns of a log that are none."""

Trainer = tuple[Callable[..., FinetuneSettings], Callable[..., RunFolder]]
"""What makes settings of names, and what trains by them."""


def finetuner(head: object) -> Trainer:
    """Returns the trainer of ``finetune``, whatever head is asked for."""
    return finetune_settings, finetune


class Row(Settings):
    """One method of an experiment.

    Attributes:
        method: its name in the table.
        settings: of ``finetune``, beside those of the whole experiment.
        pretrained: name of the pretraining that it starts from.
        against: methods of earlier rows that paired differences are taken from; the first is shown beside
            the row.
        enrolment: numbers of enrolment utterances to score beside none.
        skewed: also score enrolment by utterances of one emotion only, each emotion in turn.
        noise_db: also score everything with pink noise at so many dB below the speech.
        at: where the row lies along the experiment's ``axis``.
    """

    method: str
    settings: dict[str, Any] = Field(default_factory=dict)
    pretrained: str | None = None
    against: tuple[str, ...] = ()
    enrolment: tuple[int | str, ...] = ()
    skewed: bool = False
    noise_db: tuple[float, ...] = ()
    at: float | None = None

    @field_validator("against", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value or ()


class Experiment(Settings):
    """What an experiment file holds.

    Attributes:
        title: heading of the results page.
        settings: of ``finetune``, for every row.
        pretraining: settings of ``pretrain`` by name; ``base`` holds what all of them share.
        ways: settings of ``finetune`` by name, such as ``probe`` and ``fine-tuned``: each method goes each
            way, and the better one on dev stands for the method.
        label_fractions: shares of the training labels that each method gets, each with what it changes of
            the ways; few labels take more epochs.
        rows: the methods.
        notes: sentences under the table.
        columns: further scores to show: ``macro_f1``, ``votes_f1``.
        skewed_size: enrolment utterances in the skewed rows.
        axis: a quantity that rows differ in, each by its ``at``; UAR is drawn along it.
    """

    title: str
    settings: dict[str, Any] = Field(default_factory=dict)
    pretraining: dict[str, dict[str, Any]] = Field(default_factory=dict)
    ways: dict[str, dict[str, Any]] = Field(default_factory=dict)
    label_fractions: dict[float, dict[str, dict[str, Any]]] = Field(default_factory=dict)
    rows: tuple[Row, ...] = Field(min_length=1)
    notes: tuple[str, ...] = ()
    columns: tuple[Literal["macro_f1", "votes_f1"], ...] = ("macro_f1",)
    skewed_size: int = 10
    axis: str | None = None


def experiment(
    file: str | Path,
    manifest: str | Path | Manifest,
    out: str | Path,
    runs: str | Path,
    trainer: Callable[[object], Trainer] = finetuner,
) -> Path:
    """Runs what is missing of an experiment and draws its table.

    Rows are written as they come: an experiment that was stopped goes on where it was.

    Args:
        file: the experiment file; its name is the name of the table.
        manifest: the utterances.
        out: folder of the tables.
        runs: folder of the run folders.
        trainer: returns what trains a head by its name.

    Returns:
        The page that was drawn.

    Raises:
        ConfigError: for an unknown key, or a row that refers to no other.
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
    page = table.with_suffix(".md")
    columns = (*plan.columns, *(["way"] if plan.ways else []))
    # Few labels first: what they show comes soonest.
    jobs = [(fraction, row) for fraction in sorted(plan.label_fractions) or (None,) for row in plan.rows]
    for fraction, row in progress(jobs, file.stem):
        write_results(table, work.results(row, fraction, extra))
        more = _draw_losses(work.losses(), table.with_name(f"{table.stem}-losses.png"))
        more |= _draw_axis(plan, table)
        page = draw_results(
            table, title=plan.title, notes=plan.notes, columns=columns, figure=True, more=more
        )
    return page


def _draw_losses(losses: dict[str, dict[str, list[float]]], file: Path) -> dict[str, str]:
    """Draws how the pretrainings went, where there are any; returns the file and what it shows."""
    if losses:
        with atomic_write(file) as temporary:
            temporary.write_bytes(to_png(loss_curves(losses)))
    return {file.name: "Loss of each pretraining over its epochs, seeds averaged"} if file.exists() else {}


def check(plan: Experiment, trainer: Callable[[object], Trainer] = finetuner) -> None:
    """Refuses rows that refer to what is not there, before anything is run.

    Raises:
        ConfigError: that names the row, pretraining or setting.
    """
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
            pretrain_settings(**merge(plan.pretraining.get("base", {}), plan.pretraining[name]))


def _draw_axis(plan: Experiment, table: Path) -> dict[str, str]:
    """Draws UAR along the experiment's axis, where it has one; returns the file and what it shows."""
    rows = {row.method: row for row in read_results(table)}
    along = [row for row in plan.rows if row.at is not None and row.method in rows]
    if plan.axis is None or not along:
        return {}
    found = [rows[row.method] for row in along]
    scores = np.array([(each.uar, each.uar_low, each.uar_high) for each in found], np.float64)
    level = next((row for row in plan.rows if row.at is None and row.method in rows), None)
    named = None if level is None else (level.method, rows[level.method].uar)
    file = table.with_name(f"{table.stem}-axis.png")
    places = [float(row.at or 0) for row in along]
    with atomic_write(file) as temporary:
        temporary.write_bytes(to_png(score_along(places, scores, axis=plan.axis, level=named)))
    return {file.name: f"UAR along {plan.axis}"}


class _Work:
    """The runs of an experiment, made when they are asked for."""

    def __init__(
        self, plan: Experiment, manifest: Manifest, runs: Path, trainer: Callable[[object], Trainer]
    ) -> None:
        self.plan, self.manifest, self.runs, self.trainer = plan, manifest, runs, trainer

    def results(self, row: Row, fraction: float | None, extra: dict[str, Any]) -> list[Result]:
        """Runs one method with one share of the labels and scores it."""
        shown = self._given(row, fraction, "").get("label_fraction", 1.0)
        extra = {**extra, "label_fraction": shown}
        results = []
        for way in self.plan.ways:
            report = evaluate_classes(self._run(row, fraction, way), name=f"{row.method}, {way}")
            results.append(report.row(**extra, dev_uar=self._dev_uar(row, fraction, way)))
        chosen = self._chosen(row, fraction)
        if self.plan.ways:
            extra |= {"way": chosen, "dev_uar": self._dev_uar(row, fraction, chosen)}
        folder = self._run(row, fraction, chosen)
        others = [other for other in self.plan.rows if other.method in row.against]
        reports = []
        for name in row.against:
            other = next(one for one in others if one.method == name)
            rival = self._run(other, fraction, self._chosen(other, fraction))
            reports.append((name, evaluate_classes(folder, rival, name=row.method)))
        report = reports[0][1] if reports else evaluate_classes(folder, name=row.method)
        named: dict[str, Any] = {"against": reports[0][0]} if reports else {}
        if len(reports) > 1:
            gaps = {name: one.differences["uar"] for name, one in reports}
            named["versus"] = {name: [gap.value, gap.low, gap.high] for name, gap in gaps.items()}
        results.append(report.row(**extra, **named))
        mixes: list[tuple[int | str, str]] = [(count, "random") for count in row.enrolment]
        if row.skewed:
            mixes += [(self.plan.skewed_size, f"{label} only") for label in report.labels]
        results += _enrolled(folder, row.method, mixes, extra)
        for snr_db in row.noise_db:
            noisy, name = with_noise(folder, self.manifest, snr_db), f"{row.method}, noise at {snr_db:g} dB"
            results.append(evaluate_classes(noisy.path, folder, name=name).row(**extra, against=row.method))
            results += _enrolled(noisy.path, name, mixes, extra)
        return results

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
            # The encoder's folder brings its name and shape along.
            given["encoder"] = str(self._pretrained(row.pretrained))
        folder = self.runs.joinpath(*parts, *([_slug(way)] if way else []))
        settings, train = self.trainer(given.get("head"))
        train(self.manifest, settings(**given), folder)
        return folder

    def _pretrained(self, name: str) -> Path:
        settings = merge(self.plan.pretraining.get("base", {}), self.plan.pretraining[name])
        folder = self.runs / "pretraining" / _slug(name)
        pretrain(self.manifest, pretrain_settings(**settings), folder)
        return folder

    def losses(self) -> dict[str, dict[str, list[float]]]:
        """Returns the losses of finished pretrainings: loss, pretraining, mean of each epoch."""
        found: dict[str, dict[str, list[float]]] = {}
        for name in self.plan.pretraining:
            folder = RunFolder(self.runs / "pretraining" / _slug(name))
            logs = sorted(folder.path.glob("seed-*/fold-*/metrics.jsonl")) if folder.done else []
            if not logs:
                continue
            rows = pd.concat([pd.read_json(log, lines=True) for log in logs]).groupby("epoch").mean()
            for loss in [name for name in rows if name not in NO_LOSSES]:
                found.setdefault(str(loss), {})[name] = rows[loss].tolist()
        return found

    def _chosen(self, row: Row, fraction: float | None) -> str:
        """Returns the way that does best on dev."""
        return max(self.plan.ways or ("",), key=lambda way: self._dev_uar(row, fraction, way))

    def _dev_uar(self, row: Row, fraction: float | None, way: str) -> float:
        choices = read_meta(self._run(row, fraction, way), "finetune")["choices"].values()
        return float(np.mean([choice["dev_uar"] for choice in choices]))


def _enrolled(
    folder: Path, name: str, mixes: list[tuple[int | str, str]], extra: dict[str, Any]
) -> list[Result]:
    """Scores a run under numbers and mixes of enrolment utterances."""
    reports = [
        evaluate_classes(folder, enrolment=normal_count(count), mix=mix, name=name) for count, mix in mixes
    ]
    return [report.row(**extra) for report in reports]


def _slug(method: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in method.lower()).split())
