"""Controls for experiments, as columns of a manifest: what a finding has to be compared with.

    python experiments/controls.py low-intensity MANIFEST.csv --out NEW.csv
    python experiments/controls.py shuffled-intensity MANIFEST.csv --out NEW.csv

Each writes a manifest with one more column, of the control's name unless ``--name`` gives another. A control
of curves leads the masks of pretraining by its name: ``affetto pretrain --manifest NEW.csv --objective
mockingjay --guidance low-intensity``. Labels that a column rests on are labels that its control rests on.
"""

import argparse
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affetto.audio import to_int16
from affetto.corpora.arrays import cell, content_hash, vector_places
from affetto.corpora.curves import INTENSITY_COLUMN, VERB, Curves, read_curves, write_curves
from affetto.corpora.manifest import Manifest
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
    """Returns a manifest with the curves of a control, in an array beside ``out``.

    The seed of an utterance that is shuffled is its row among the recordings that can be decoded. Utterances
    without a curve have none in the new column.
    """
    name = name or control
    recordings = Recordings(manifest)
    places = vector_places(recordings.manifest, column, VERB)
    rows = [row for row, place in enumerate(places) if place is not None]
    known = recordings.manifest.where(np.isin(np.arange(len(places)), rows))
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


# The command line: a function (manifest, arguments) -> manifest for each control.


def curve_command(manifest: Manifest, arguments: argparse.Namespace) -> Manifest:
    """Adds a control of curves."""
    return with_curve_control(
        manifest, arguments.control, arguments.out, arguments.column or INTENSITY_COLUMN, arguments.name
    )


CONTROLS: dict[str, tuple[Callable[[Manifest, argparse.Namespace], Manifest], str]] = {
    "low-intensity": (curve_command, "one minus a curve: what leads a mask is high where the curve is low"),
    "shuffled-intensity": (curve_command, "the values of each curve at random moments"),
}


def main(words: Sequence[str] | None = None) -> None:
    """Writes one control."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="control", required=True)
    for name, (_, text) in CONTROLS.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("manifest", type=Path, help="table of utterances")
        command.add_argument("--out", "-o", required=True, type=Path, help="the new table")
        command.add_argument("--column", help="of what the control is made; intensity by default")
        command.add_argument("--name", help="of the new column; the name of the control by default")
    arguments = parser.parse_args(words)
    write, _ = CONTROLS[arguments.control]
    new = write(Manifest.read(arguments.manifest), arguments)
    new.write(arguments.out)
    print(f"{arguments.out}: {len(new)} utterances, column {arguments.name or arguments.control}")


if __name__ == "__main__":
    main()
