"""The script that makes the recognisers of the package: what the cards say."""

import pytest

from affetto.models.checkpoint import SHIPPED_FOLDER, WITHOUT_GE2E, read_config
from helpers import script

recognisers = script("experiments/recognisers.py")


@pytest.mark.parametrize(
    ("method", "place"),
    [("small", "small"), ("base", "base"), ("base, without GE2E", f"base/{WITHOUT_GE2E}")],
)
def test_cards_are_what_the_script_writes(method: str, place: str) -> None:
    folder = SHIPPED_FOLDER / place
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card == recognisers.card(method, read_config(folder))
