"""Controls for experiments, as columns of a manifest: what a finding has to be compared with.

    python experiments/controls.py random MANIFEST.csv --out NEW.csv --column cluster
    python experiments/controls.py duration MANIFEST.csv --out NEW.csv --count 6
    python experiments/controls.py purity MANIFEST.csv --out NEW.csv --share 0.6
    python experiments/controls.py low-intensity MANIFEST.csv --out NEW.csv
    python experiments/controls.py shuffled-intensity MANIFEST.csv --out NEW.csv
    python experiments/controls.py shuffled-gender MANIFEST.csv --out NEW.csv

Each writes a manifest with one more column. Groups take the place of clusters by their name: ``affetto
pretrain --manifest NEW.csv --groups random_cluster``. A control of curves leads the masks of pretraining:
``affetto pretrain --manifest NEW.csv --objective mockingjay --guidance low-intensity``. Labels that a column
rests on are labels that its control rests on. Genders of other speakers are read by ``affetto pretrain
--objective clap clap.gender=shuffled_gender``.
"""

import argparse
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affetto.analysis.agreement import quantile_bins
from affetto.analysis.confounds import Measures
from affetto.audio import to_int16
from affetto.corpora.arrays import cell, content_hash, marks_of, vector_places
from affetto.corpora.curves import INTENSITY_COLUMN, VERB, Curves, read_curves, write_curves
from affetto.corpora.labels import Marks
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import lacks
from affetto.errors import ManifestError
from affetto.features import FrontEnd
from affetto.material.recordings import Recordings

# Controls of curves: the same recordings, led by something else than intensity.


def low_intensity(curve: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns one minus a curve ``(T,)`` of values from 0 to 1: low moments become high ones."""
    return np.asarray(1 - curve, np.float32)


def shuffled_intensity(
    curves: Sequence[NDArray[np.float32]], seeds: Sequence[int]
) -> list[NDArray[np.float32]]:
    """Returns the same values of each curve ``(T,)`` at random moments, by a seed for each."""
    return [np.random.default_rng(seed).permutation(curve) for curve, seed in zip(curves, seeds, strict=True)]


def on_frames(curves: Curves, number: int, samples: int, fold: int | None) -> NDArray[np.float32]:
    """Brings a curve to log-mel frames, 10 ms apart: shuffled there, no value is mixed with its neighbour."""
    front_end = FrontEnd()
    return curves.aligned(number, front_end.frame_count(samples), front_end.hop_seconds, fold)


def with_curve_control(
    manifest: Manifest, control: str, out: Path, column: str = INTENSITY_COLUMN, name: str | None = None
) -> Manifest:
    """Returns a manifest with the curves of a control, in an array next to ``out``.

    The seed of an utterance that is shuffled is its row among the recordings that can be decoded. Utterances
    without a curve have none in the new column.
    """
    name = name or control
    recordings = Recordings(manifest)
    there = vector_places(recordings.manifest, column, VERB)[1][:, 0] >= 0
    rows, known = np.flatnonzero(there).tolist(), recordings.manifest.where(there)
    curves = read_curves(known, column)
    waveforms = [recordings.waveforms[row] for row in rows]
    columns = []
    for fold in curves.folds or [None]:
        own = [on_frames(curves, number, len(each), fold) for number, each in enumerate(waveforms)]
        own = (
            shuffled_intensity(own, rows)
            if control == "shuffled-intensity"
            else list(map(low_intensity, own))
        )
        columns.append(np.concatenate(own))
    info = {
        **{fact: value for fact, value in curves.info.items() if fact not in ("lengths", "hashes")},
        "source": f"{control} of {curves.info['source']}",
        "source_sha256": hashlib.sha256(f"{control} {curves.info['source_sha256']}".encode()).hexdigest(),
        "hop_seconds": FrontEnd().hop_seconds,
    }
    array = out.absolute().with_name(f"{name}.npy")
    lengths = [FrontEnd().frame_count(len(each)) for each in waveforms]
    hashes = [content_hash(to_int16(each)) for each in waveforms]
    write_curves(array, np.stack(columns, axis=1), lengths, hashes, info)
    cells = {key: cell(array, number) for number, key in enumerate(known.keys)}
    new = pd.Series([cells.get(key) for key in manifest.keys], manifest.table.index, dtype=object)
    return manifest.with_columns({name: new})


# Controls of groups: other groups of utterances within each speaker in the place of clusters.


def random_groups(table: pd.DataFrame, speakers: NDArray[np.str_], column: str, seed: int) -> list[Any]:
    """Returns the values of a column at random rows of the same speaker: groups of the same sizes."""
    generator = np.random.default_rng([seed, 13])
    values = table[column].to_numpy(object).copy()
    for name in np.unique(speakers):
        own = np.flatnonzero(speakers == name)
        values[own] = values[own[generator.permutation(len(own))]]
    return [None if pd.isna(value) else value for value in values]


def measured_groups(recordings: Recordings, measure: str, count: int) -> list[int | None]:
    """Returns groups of each speaker's utterances by length, level or median pitch, equally filled.

    Utterances without voice have no pitch, and no group.
    """
    measured = recordings.vectors(Measures())[:, Measures.names.index(measure)].double().numpy()
    speakers = np.unique(recordings.speakers, return_inverse=True)[1]
    return [None if group < 0 else group for group in quantile_bins(measured, speakers, count).tolist()]


def impure_groups(emotions: "pd.Series[Any]", share: float, seed: int) -> list[str | None]:
    """Returns the true emotion of a share of the utterances, and another, random one of the others."""
    generator = np.random.default_rng([seed, 13])
    numbers, names = pd.factorize(emotions, sort=True)
    classes = len(names)
    others = (numbers + generator.integers(1, max(2, classes), len(numbers))) % classes
    kept = generator.random(len(numbers)) < share
    mixed = np.where(kept, numbers, others).tolist()
    return [names[mix] if known >= 0 else None for mix, known in zip(mixed, numbers, strict=True)]


def with_groups(manifest: Manifest, arguments: argparse.Namespace) -> Manifest:
    """Adds groups; recordings that cannot be decoded have none."""
    recordings, control = Recordings(manifest), arguments.control
    table, marks = recordings.manifest.table, Marks(f"control {control}")
    if control == "random":
        if arguments.column not in table:
            raise ManifestError(lacks(arguments.column, table.columns))
        groups: list[Any] = random_groups(table, recordings.speakers, arguments.column, arguments.seed)
        marks |= marks_of(manifest, arguments.column)
    elif control == "purity":
        groups = list(impure_groups(table["emotion"], arguments.share, arguments.seed))
        marks = replace(marks, labels_used=True)
    else:
        groups = list(measured_groups(recordings, control, arguments.count))
    found = dict(zip(recordings.manifest.keys, groups, strict=True))
    new = pd.Series([found.get(key) for key in manifest.keys], manifest.table.index, dtype=object)
    return manifest.with_columns({arguments.name: new}, {arguments.name: marks})


# Controls of genders: those of other speakers, for `affetto pretrain --objective clap clap.gender=COLUMN`.


def shuffled_genders(genders: Sequence[str | None], speakers: Sequence[str], seed: int) -> list[str | None]:
    """Returns for each utterance the gender of another speaker, the same one for all of its speaker's."""
    names, first = np.unique(np.asarray(speakers), return_index=True)
    order = np.random.default_rng([seed, 19]).permutation(len(names)).tolist()
    other = {name: genders[first[place]] for name, place in zip(names.tolist(), order, strict=True)}
    return [other[name] for name in speakers]


def with_genders(manifest: Manifest, arguments: argparse.Namespace) -> Manifest:
    """Adds the genders of other speakers; a gender is known where the speaker's first utterance has one."""
    if arguments.column not in manifest.table:
        raise ManifestError(lacks(arguments.column, manifest.table.columns))
    given = [None if pd.isna(value) else value for value in manifest.table[arguments.column]]
    found = shuffled_genders(given, manifest.owners, arguments.seed)
    return manifest.with_columns({arguments.name: pd.Series(found, manifest.table.index, dtype=object)})


# The command line: a function (manifest, arguments) -> manifest for each control.


def with_curves(manifest: Manifest, arguments: argparse.Namespace) -> Manifest:
    """Adds a control of curves."""
    return with_curve_control(manifest, arguments.control, arguments.out, arguments.column, arguments.name)


class Control(NamedTuple):
    """A control on the command line: its function, help, the default name of its column, and its options."""

    write: Callable[[Manifest, argparse.Namespace], Manifest]
    about: str
    name: str
    options: dict[str, Any]


CONTROLS = {
    "random": Control(
        with_groups,
        "groups of the sizes that a column has, at random within each speaker",
        "random_{column}",
        {"column": "cluster", "seed": 0},
    ),
    **{
        measure: Control(
            with_groups,
            f"each speaker's utterances in groups by {what}",
            f"{measure}_{{count}}",
            {"count": 6},
        )
        for measure, what in (("duration", "length"), ("loudness", "level"), ("pitch", "median pitch"))
    },
    "purity": Control(
        with_groups,
        "the true emotion for a share of the utterances, another one for the rest",
        "purity_{share}",
        {"share": 1.0, "seed": 0},
    ),
    "shuffled-gender": Control(
        with_genders,
        "the gender of another speaker, the same for all utterances of a speaker",
        "shuffled_{column}",
        {"column": "gender", "seed": 0},
    ),
    "low-intensity": Control(
        with_curves,
        "one minus a curve: what leads a mask is high where the curve is low",
        "low-intensity",
        {"column": INTENSITY_COLUMN},
    ),
    "shuffled-intensity": Control(
        with_curves,
        "the values of each curve at random moments",
        "shuffled-intensity",
        {"column": INTENSITY_COLUMN},
    ),
}


def main(words: Sequence[str] | None = None) -> None:
    """Writes one control."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="control", required=True)
    for name, control in CONTROLS.items():
        command = commands.add_parser(
            name, help=control.about, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        command.add_argument("manifest", type=Path, help="table of utterances")
        command.add_argument("--out", "-o", required=True, type=Path, help="the new table")
        command.add_argument("--name", default=control.name, help="of the new column")
        for option, default in control.options.items():
            command.add_argument(f"--{option}", type=type(default), default=default, help=HELP[option])
    arguments = parser.parse_args(words)
    if not 0 <= getattr(arguments, "share", 1.0) <= 1 or getattr(arguments, "count", 1) < 1:
        parser.error("--share lies between 0 and 1, and --count is at least 1")
    arguments.name = arguments.name.format(**vars(arguments))
    new = CONTROLS[arguments.control].write(Manifest.read(arguments.manifest), arguments)
    new.write(arguments.out)
    print(f"{arguments.out}: {len(new)} utterances, column {arguments.name}")


HELP = {
    "column": "of what the control is made",
    "count": "groups of a speaker",
    "share": "of the utterances that keep their true emotion",
    "seed": "of what is drawn",
}


if __name__ == "__main__":
    main()
