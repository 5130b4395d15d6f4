"""Predictions tables of a recogniser that does not exist."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

LABELS = ("anger", "fear", "happiness", "neutral")


def predictions(
    speakers: int = 12,
    each: int = 8,
    folds: int = 3,
    seeds: Sequence[int] = (0, 1),
    skill: float = 0.5,
    labels: Sequence[str] = LABELS,
    draw: int = 0,
) -> pd.DataFrame:
    """Every speaker is test in one fold, dev in another, else train; more ``skill`` is better."""
    truths = np.random.default_rng(99)  # the same clips whatever else is drawn
    utterances = [
        (f"s{speaker:02d}-{number}", f"s{speaker:02d}", speaker, labels[truths.integers(len(labels))])
        for speaker in range(speakers)
        for number in range(each)
    ]
    generator = np.random.default_rng([draw, 7])
    ease = generator.normal(0, 1, speakers)
    rows = []
    for seed in seeds:
        for fold in range(folds):
            for key, name, speaker, truth in utterances:
                home = speaker % folds
                part = "test" if home == fold else "dev" if home == (fold + 1) % folds else "train"
                logits = generator.normal(0, 1, len(labels))
                logits[labels.index(truth)] += 2 * skill + 0.5 * ease[speaker]
                shares = np.exp(logits) / np.exp(logits).sum()
                rows.append(
                    {
                        "key": key,
                        "file": f"{key}.wav",
                        "start": np.nan,
                        "end": np.nan,
                        "speaker": name,
                        "gender": "female" if speaker % 2 else "male",
                        "part": part,
                        "fold": fold,
                        "seed": seed,
                        "truth": truth,
                        "label": labels[int(shares.argmax())],
                        "confidence": shares.max(),
                        **{f"p_{label}": share for label, share in zip(labels, shares, strict=True)},
                    }
                )
    return pd.DataFrame(rows)
