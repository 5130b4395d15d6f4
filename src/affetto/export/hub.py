"""Model cards: of the hub, with the scores that are known, and of exported files; ``push`` to the hub."""

import tempfile
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, HfApi, ModelCardData
from huggingface_hub.errors import HfHubHTTPError

from affetto._version import __version__
from affetto.audio import SAMPLE_RATE
from affetto.errors import AffettoError, ConfigError
from affetto.inference.recogniser import Recogniser
from affetto.models.checkpoint import (
    CONFIG,
    HUB_ID,
    RECOGNISER,
    TEXT,
    WEIGHTS,
    copy_folder,
    find_recogniser,
    read_config,
)
from affetto.runs import read_json, write_text

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


_SENT = [CONFIG, WEIGHTS, "README.md", f"{TEXT}/*"]  # what a hub id is loaded from
_METRICS = {"uar": ("recall", "unweighted average recall"), "war": ("accuracy", "accuracy")}


def push_to_hub(name: str | Path, repo_id: str, *, public: bool = False, token: str | None = None) -> str:
    """Uploads a recogniser with its model card, and returns its address.

    The card's head gets a ``model-index``: the scores of the report that ``affetto evaluate`` wrote next to
    the recogniser, or else its score on dev.

    Args:
        name: a recogniser, as for :meth:`Recogniser.from_pretrained`.
        repo_id: ``"owner/name"``; made where it is not there.
        public: whether everybody sees a repository that is made.
        token: of the hub; None for the one of ``hf auth login``.

    Raises:
        AffettoError: when the hub refuses it or is not reached.
    """
    if not HUB_ID.fullmatch(repo_id):
        raise ConfigError(f"got the repository {repo_id!r}; owner/name is needed, such as jane/calls")
    folder = find_recogniser(name)
    config, card = read_config(folder), folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / RECOGNISER
        copy_folder(folder, copy)
        write_text(copy / "README.md", hub_card(text, config, _report(folder), repo_id))
        try:
            address = api.create_repo(repo_id, private=not public, exist_ok=True)
            api.upload_folder(
                repo_id=repo_id,
                folder_path=copy,
                allow_patterns=_SENT,
                commit_message="Recogniser of affetto",
            )
        except (OSError, ValueError, HfHubHTTPError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise AffettoError(
                f"cannot upload to {repo_id} ({reason}); check the name and the connection, and log in with: "
                "hf auth login"
            ) from error
    return str(address)


def hub_card(text: str, config: dict[str, Any], report: dict[str, Any], repo_id: str) -> str:
    """Returns a model card with the ``model-index`` in its head, and the example naming the repository."""
    head, body = front_matter(text)
    scores = [(name, report[name], "test") for name in _METRICS if name in report]
    if not scores and "dev_uar" in config:
        scores = [("uar", config["dev_uar"], "dev")]
    protocol = str(config.get("protocol", "unknown"))
    found = [
        EvalResult(
            task_type="audio-classification",
            task_name="speech emotion recognition",
            dataset_type=protocol,
            dataset_name=f"{protocol}, speakers of {part}",
            dataset_split="test" if part == "test" else "validation",
            metric_type=_METRICS[name][0],
            metric_name=_METRICS[name][1],
            metric_value=round(float(value), 4),
            metric_args={"average": "macro"} if name == "uar" else None,
        )
        for name, value, part in scores
    ]
    known = dict[str, Any](model_name=repo_id.partition("/")[2], eval_results=found) if found else {}
    values = ModelCardData(**head, **known).to_dict()  # type: ignore[no-untyped-call]
    body = body.replace("PATH/OF/THIS/FOLDER", repo_id)
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---\n{body}"


def _report(folder: Path) -> dict[str, Any]:
    """Returns the row of the report of the run that a recogniser is in; empty without one."""
    file = folder.parent / "report" / "report.json"
    if folder.name != RECOGNISER or not file.is_file():
        return {}
    row = read_json(file)
    return row if isinstance(row, dict) and not row.get("enrolment") else {}
