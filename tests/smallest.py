"""The smallest network that finetune trains, and settings under which nothing is drawn at random."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from affetto.finetuning import enrolment
from affetto.finetuning.settings import FinetuneSettings, finetune_settings

TINY = (
    "encoder.width=16",
    "encoder.blocks=1",
    "encoder.bins=32",
    "train.epochs=2",
    "train.batch_size=8",
)
EXACT = (
    "dropout=0",
    "encoder.drop_path=0",
    # Attention ends in a bias that no softmax over time can feel: only rounding moves it.
    "embedder.pooling=statistics",
    "augment.gain_db=0",
    "augment.noise_probability=0",
    "augment.speed=null",
    "augment.time_masks=0",
    "augment.frequency_masks=0",
    "enrolment=false",
)


def tiny(protocol: Path, *overrides: str) -> FinetuneSettings:
    """Settings of a very small ``cnn``."""
    return finetune_settings(protocol=str(protocol), overrides=(*TINY, *overrides))


@contextmanager
def few_trials() -> Iterator[None]:
    """Fits an enrolment with one choice of each of its numbers: nine tenths of the time go into choosing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enrolment, "_STRENGTHS", (0.003,))
        patch.setattr(enrolment, "_TRUSTS", (1.0,))
        patch.setattr(enrolment, "_REPEATS", 1)
        yield
