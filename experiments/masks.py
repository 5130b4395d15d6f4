"""What is hidden of an utterance in masked pretraining, guidance by guidance, over its spectrogram.

    python experiments/masks.py --manifest MANIFEST.csv --key KEY --out experiments

The manifest has the columns ``intensity``, ``loudness`` and ``voicing`` of ``affetto annotate intensity``.
Every draw of a mask is another one; this is the first of seed 0. All hide the same number of frames.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from affetto.audio import decode
from affetto.corpora.curves import read_curves
from affetto.corpora.manifest import Manifest
from affetto.features import FrontEnd
from affetto.intensity.run import Spoken, curve_figure
from affetto.masking import MaskSettings, hidden_frames
from affetto.plots import to_png
from affetto.runs import atomic_write

GUIDANCES = ("random", "emotional", "energy", "voiced")


def draw(manifest: Manifest, key: str, out: Path, guidances: Sequence[str] = GUIDANCES) -> Path:
    """Draws one utterance, and prints what is hidden of it."""
    manifest = manifest.where([key])
    front_end = FrontEnd()
    start, end = (manifest.table[name].iloc[0] for name in ("start", "end"))
    part = (None if pd.isna(start) else float(start), None if pd.isna(end) else float(end))
    waveform = torch.from_numpy(decode(manifest.paths[0], *part))[None]
    spectrogram = front_end(waveform, torch.tensor([waveform.shape[1]]))[0][0].numpy()
    frames = len(spectrogram)
    shown = []
    for guidance in guidances:
        settings = MaskSettings(guidance=guidance)
        column = settings.curve or "intensity"
        guide = read_curves(manifest, column).aligned(0, frames, front_end.hop_seconds)
        led = None if settings.curve is None else torch.from_numpy(guide)[None]
        generator = torch.Generator().manual_seed(0)
        hidden = hidden_frames(torch.tensor([frames]), frames, settings, led, generator)[0].numpy()
        title = f"{guidance}: {100 * hidden.mean():.1f} % hidden; by {column}"
        shown.append(Spoken(title, spectrogram, front_end.hop_seconds, guide, front_end.hop_seconds, hidden))
        there, elsewhere = guide[hidden].mean(), guide[~hidden].mean()
        print(f"{guidance}: {hidden.sum()} of {frames} frames, guide {there:.2f}, else {elsewhere:.2f}")
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / "masks.png") as temporary:
        temporary.write_bytes(to_png(curve_figure(shown, name="guide")))
    return out / "masks.png"


def main() -> None:
    """Draws one figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", required=True, type=Path)
    parser.add_argument("--key", help="of the utterance; the first one by default")
    parser.add_argument("--guidances", nargs="+", default=GUIDANCES, help="or columns of curves")
    parser.add_argument("--out", required=True, type=Path, help="folder for masks.png")
    arguments = parser.parse_args()
    manifest = Manifest.read(arguments.manifest)
    print(draw(manifest, arguments.key or manifest.keys[0], arguments.out, arguments.guidances))


if __name__ == "__main__":
    main()
