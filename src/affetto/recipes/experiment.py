"""``experiment``: a table of results from one file, run by run, going on where it stopped."""

from pathlib import Path
from typing import Any

from pydantic import Field

from affetto.config import Settings, build, read
from affetto.corpora.manifest import Manifest
from affetto.errors import ConfigError, unknown
from affetto.evaluation.enrolment import normal_count
from affetto.evaluation.results import Result, draw_results, write_results
from affetto.progress import progress
from affetto.recipes.evaluate import evaluate
from affetto.recipes.finetune import finetune
from affetto.recipes.methods import finetune_settings


class Row(Settings):
    """One run of an experiment.

    Attributes:
        method: its name in the table.
        settings: of ``finetune``, beside those of the whole experiment.
        against: the method, of an earlier row, that the paired difference is taken from.
        enrolment: numbers of enrolment utterances to score beside none.
        skewed: also score enrolment by utterances of one emotion only, each emotion in turn.
    """

    method: str
    settings: dict[str, Any] = Field(default_factory=dict)
    against: str | None = None
    enrolment: tuple[int | str, ...] = ()
    skewed: bool = False


class Experiment(Settings):
    """What an experiment file holds.

    Attributes:
        title: heading of the results page.
        settings: of ``finetune``, for every row.
        rows: the runs.
        notes: sentences under the table.
        skewed_size: enrolment utterances in the skewed rows.
    """

    title: str
    settings: dict[str, Any] = Field(default_factory=dict)
    rows: tuple[Row, ...] = Field(min_length=1)
    notes: tuple[str, ...] = ()
    skewed_size: int = 10


def experiment(file: str | Path, manifest: str | Path | Manifest, out: str | Path, runs: str | Path) -> Path:
    """Runs what is missing of an experiment and draws its table.

    Rows are written as they come: an experiment that was stopped goes on where it was.

    Args:
        file: the experiment file; its name is the name of the table.
        manifest: the utterances.
        out: folder of the tables.
        runs: folder of the run folders.

    Returns:
        The page that was drawn.

    Raises:
        ConfigError: for an unknown key, or a row that refers to no other.
    """
    file = Path(file)
    plan = build(Experiment, read(file))
    manifest = manifest if isinstance(manifest, Manifest) else Manifest.read(manifest)
    names = [row.method for row in plan.rows]
    for place, row in enumerate(plan.rows):
        if row.against is not None and row.against not in names[:place]:
            raise ConfigError(unknown("earlier method", row.against, names[:place]))
    table = Path(out) / f"{file.stem}.json"
    folders = {row.method: Path(runs) / file.stem / _slug(row.method) for row in plan.rows}
    extra = {
        "command": f"affetto experiment {file.as_posix()} --manifest MANIFEST",
        "manifest_sha256": manifest.sha256,
    }
    page = table.with_suffix(".md")
    for row in progress(plan.rows, file.stem):
        settings = finetune_settings(**{**plan.settings, **row.settings})
        finetune(manifest, settings, folders[row.method])
        write_results(table, _rows(row, folders, plan, extra))
        page = draw_results(table, title=plan.title, notes=plan.notes, columns=("macro_f1",), figure=True)
    return page


def _rows(row: Row, folders: dict[str, Path], plan: Experiment, extra: dict[str, Any]) -> list[Result]:
    against = folders[row.against] if row.against else None
    fraction = finetune_settings(**{**plan.settings, **row.settings}).label_fraction
    extra = {**extra, "label_fraction": fraction}
    report = evaluate(folders[row.method], against, name=row.method)
    named = {"against": row.against} if row.against else {}
    results = [report.row(**extra, **named)]
    settings: list[tuple[int | str, str]] = [(count, "random") for count in row.enrolment]
    if row.skewed:
        settings += [(plan.skewed_size, f"{label} only") for label in report.labels]
    for count, mix in settings:
        enrolled = evaluate(folders[row.method], enrolment=normal_count(count), mix=mix, name=row.method)
        results.append(enrolled.row(**extra))
    return results


def _slug(method: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in method.lower()).split())
