"""The predictions table: all that evaluation reads, written by affetto or by another program.

One row an utterance, fold and seed: ``key, file, start, end, speaker, part, fold, seed, truth, label,
confidence, p_<label>...``. ``part`` is train, dev, test or enrol (used for enrolment, never scored).
``gender``, ``corpus``, ``enrolment`` and ``method`` are used where they are.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from affetto.errors import ManifestError, unknown

PREDICTIONS = "predictions.parquet"
ENROLLED = "enrolled.parquet"
REQUIRED = ("key", "speaker", "part", "fold", "seed", "truth", "label")
TEXT = ("key", "speaker", "part", "truth", "label")
PARTS = ("train", "dev", "test", "enrol")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
SUM_TOLERANCE = 2e-3  # probabilities written with three decimals still pass


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Reads a predictions table by its suffix (csv, tsv, jsonl, parquet); ids stay text.

    Raises:
        ManifestError: for another suffix, or a file that cannot be read.
    """
    file = Path(path)
    text = {"key": str, "speaker": str, "truth": str, "label": str, "enrolment": str}
    try:
        if file.suffix in (".csv", ".tsv"):
            separator = "," if file.suffix == ".csv" else "\t"
            return pd.read_csv(file, sep=separator, dtype=text, keep_default_na=False, na_values=[""])
        if file.suffix == ".jsonl":
            return pd.read_json(file, lines=True, dtype=text)
        if file.suffix == ".parquet":
            return pd.read_parquet(file)
    except (OSError, ValueError) as error:
        raise ManifestError(f"cannot read predictions from {file}: {error}") from error
    raise ManifestError(unknown("predictions file type", file.suffix, SUFFIXES))


def check_predictions(
    table: pd.DataFrame, labels: Sequence[str] | None = None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Proves that a predictions table can be scored, and brings its ids into one form.

    Args:
        table: the predictions; not changed.
        labels: the classes in order; None takes them from the ``p_`` columns, or from the table's own labels.

    Returns:
        A copy with text ids, speakers written ``corpus/speaker`` where there is more than one corpus; and the
        labels.

    Raises:
        ManifestError: names the missing column, the unknown label or part, the repeated row, or the
            probabilities that do not sum to one.
    """
    missing = [name for name in REQUIRED if name not in table]
    if missing:
        raise ManifestError(
            f"the predictions table lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"it has {', '.join(map(str, table.columns))}"
        )
    for name in REQUIRED:
        empty = table[name].isna() | (table[name].astype(str) == "")
        if empty.any():
            key = table.loc[empty, "key"].iloc[0]
            raise ManifestError(f"{int(empty.sum())} predictions have no {name}, the first is key {key!r}")
    checked = table.reset_index(drop=True).astype(dict.fromkeys(TEXT, str))
    for name in ("fold", "seed"):
        numbers = pd.to_numeric(checked[name], errors="coerce")
        whole = numbers.notna().all() and (numbers == numbers.round()).all()
        checked[name] = numbers.astype("int64") if whole else checked[name].astype(str)
    columns = [str(name) for name in checked.columns if str(name).startswith("p_")]
    names = tuple(labels) if labels else tuple(name.removeprefix("p_") for name in columns)
    names = names or tuple(sorted({*checked["truth"], *checked["label"]}))
    _check_values(checked["part"], PARTS, "")
    for name in ("truth", "label"):
        _check_values(checked[name], names, f"column {name}: ")
    repeated = checked.duplicated(["seed", "fold", "key"])
    if repeated.any():
        row = checked.loc[repeated].iloc[0]
        raise ManifestError(f"key {row['key']!r} stands twice in fold {row['fold']}, seed {row['seed']}")
    if columns:
        _check_probabilities(checked, columns, names)
    if "corpus" in checked and checked["corpus"].nunique() > 1:
        prefix = checked["corpus"].astype(str) + "/"
        own = zip(checked["speaker"], prefix, strict=True)
        checked["speaker"] = [name if name.startswith(start) else start + name for name, start in own]
    return checked, names


def check_dimensions(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Proves that a table with ``truth_D`` and ``D`` for each dimension D can be scored; returns a copy."""
    values = [column for name in names for column in (f"truth_{name}", name)]
    needed = [name for name in REQUIRED if name not in ("truth", "label")]
    if missing := [name for name in (*needed, *values) if name not in table]:
        raise ManifestError(f"the predictions table lacks {', '.join(missing)}")
    checked = table.reset_index(drop=True).astype({"key": str, "speaker": str})
    if checked.duplicated(["seed", "fold", "key"]).any():
        raise ManifestError("an utterance stands twice in one fold and seed of the predictions table")
    bad = ~np.isfinite(checked[values].to_numpy(np.float64)).all(1)
    if bad.any():
        first = checked["key"][bad].iloc[0]
        raise ManifestError(f"{int(bad.sum())} predictions are no numbers, the first of {first}")
    return checked


def scored(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the test rows of a checked table; there must be some."""
    rows = table[table["part"] == "test"].reset_index(drop=True)
    if rows.empty:
        parts = ", ".join(sorted(table["part"].unique())) or "no rows at all"
        raise ManifestError(f"the predictions table has no row whose part is 'test' (it has {parts})")
    return rows


def one_value(table: pd.DataFrame, column: str, default: str) -> str:
    """Returns the single value of a column, or ``default`` where there is none; several are an error."""
    if column not in table:
        return default
    values = sorted({str(value) for value in table[column].dropna()})
    if len(values) > 1:
        raise ManifestError(
            f"the predictions table mixes {len(values)} values of {column} ({', '.join(values)}); "
            "score each by itself"
        )
    return values[0].removesuffix(".0") if values else default


def _check_probabilities(table: pd.DataFrame, columns: Sequence[str], labels: Sequence[str]) -> None:
    lacking = [label for label in labels if f"p_{label}" not in columns]
    surplus = [name for name in columns if name.removeprefix("p_") not in labels]
    if lacking or surplus:
        raise ManifestError(
            f"the p_ columns do not fit the labels {', '.join(labels)}: "
            f"missing {', '.join(f'p_{label}' for label in lacking) or 'none'}; "
            f"surplus {', '.join(surplus) or 'none'}"
        )
    values = table[list(columns)].to_numpy(dtype=np.float64)
    wrong = ~(np.abs(values.sum(axis=1) - 1) <= SUM_TOLERANCE) | (values < -SUM_TOLERANCE).any(axis=1)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise ManifestError(
            f"in {int(wrong.sum())} rows the p_ columns are no probabilities that sum to one; "
            f"the first is key {table['key'].iloc[first]!r} with sum {values[first].sum():.4g}"
        )


def _check_values(column: pd.Series, allowed: Sequence[str], where: str) -> None:
    kind = "label" if where else "part"
    for value in column.unique():
        if value not in allowed:
            raise ManifestError(where + unknown(kind, value, allowed))
