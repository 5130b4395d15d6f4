"""A row depends on its recording alone, to the last bit, whatever else is computed with it."""

import numpy as np
import pytest

from affetto.corpora.manifest import Manifest
from affetto.inference.embedding import vectors_of_clips
from affetto.inference.loading import load_representation
from affetto.inference.pipeline import Plan
from affetto.inference.sources import clips


@pytest.mark.parametrize("name", ["small", "d-vector", "mockingjay"])
def test_a_vector_does_not_depend_on_the_others(name: str, corpus: Manifest) -> None:
    model, everything = load_representation(name, device="cpu"), list(clips(corpus))[::5]
    plan = Plan(workers=1, batch_seconds=8.0)
    whole = [vector for _, vector in vectors_of_clips(model, everything, plan)]
    for count in (2, 5):  # alone and in few, where products and convolutions take other ways
        for start in range(count):
            some = [vector for _, vector in vectors_of_clips(model, everything[start::count], plan)]
            np.testing.assert_array_equal(some, whole[start::count])
