"""What an exported recogniser says of itself: the metadata of its file, and the README next to it."""

from typing import Any

import yaml

from affetto._version import __version__
from affetto.audio import SAMPLE_RATE
from affetto.inference.recogniser import Recogniser

_UNNAMED = "not named by its model card; those of its training recordings and weights apply"


def front_matter(card: str) -> tuple[dict[str, Any], str]:
    """Splits a model card into its YAML head, empty where there is none, and the rest."""
    head, found, rest = card.removeprefix("---\n").partition("\n---\n")
    values = yaml.safe_load(head) if found and card.startswith("---\n") else None
    return (values, rest) if isinstance(values, dict) else ({}, card)


def model_facts(recogniser: Recogniser, card: str, int8: bool) -> dict[str, Any]:
    """Returns the metadata of an ONNX file."""
    config = recogniser.config
    speakers = config.get("speakers_seen", {}).get("with_labels", [])
    return {
        "labels": recogniser.labels,
        "output": "values" if recogniser.format.values else "probabilities",
        "sample_rate": SAMPLE_RATE,
        "recogniser": recogniser.sha256,
        "trained_on": config.get("made_from", f"{len(speakers)} speakers, protocol {config.get('protocol')}"),
        "manifest_sha256": config.get("manifest_sha256", "unknown"),
        "licence": str(front_matter(card)[0].get("license", _UNNAMED)),
        "withholding": config.get("withholding", {}),
        "weights": "8 bits" if int8 else "32 bits",
        "affetto_version": __version__,
    }


def export_card(facts: dict[str, Any], enrols: bool, difference: float, card: str) -> str:
    """Returns the README of an exported recogniser, with that of the recogniser below."""
    of = "values of dimensions" if facts["output"] == "values" else "probabilities"
    enrolment = _ENROLMENT if enrols else "- This recogniser was made without enrolment.\n"
    return f"""# A recogniser as ONNX

- `model.onnx`, with weights in {facts["weights"]}; on test sounds its answers differ from those of torch
  by at most {difference:.1g}
- Input `waveforms`, float32 `(B, S)`: mono, {SAMPLE_RATE} samples a second, in ±1, zero past the ends
- Input `lengths`, int64 `(B,)`: the samples of each
- Output `{facts["output"]}`, float32 `(B, K)`: {of} in the order of `labels`
- Output `vectors`, float32 `(B, D)`: what the answers are made from
{enrolment}- Metadata: {", ".join(f"`{name}`" for name in facts)}; lists are JSON
- Labels: {", ".join(facts["labels"])}
- Licence: {facts["licence"]}

It answers where there is no speech, too: `affetto predict` looks for speech first, and this file does not.
A recording longer than a minute is best cut into parts of 30 s, whose answers are averaged, weighted by their
lengths.

The card of the recogniser follows.

{front_matter(card)[1].strip() or "It has none."}
"""


_ENROLMENT = """\
- Input `enrolment`, float32 `(1, D + 1)` or `(B, D + 1)`, optional: what `enrol.onnx` makes of the `vectors`
  of some ten unlabelled utterances of the speaker, `(N, D)`; zeros where the speaker is not enrolled
"""
