"""The model card of a recogniser folder."""

from typing import Any

from affetto._version import __version__
from affetto.models.classifier import ELSEWHERE


def model_card(config: dict[str, Any]) -> str:
    """Returns the README of a recogniser folder, from its ``config.json``."""
    labels = ", ".join(config["labels"])
    dependent = "\n**speaker-dependent**: trained on speakers that it was also tested on.\n"
    origin = "Trained from scratch."
    if config["weights_from_elsewhere"]:
        origin = "The encoder's weights come from elsewhere; which speakers they saw is unknown."
    kind, score = "Classes", f"UAR on its dev speakers {100 * config.get('dev_uar', 0):.1f} %"
    if "dev_ccc" in config:
        kind, score = "Dimensions", f"concordance (CCC) on its dev speakers {config['dev_ccc']:.2f}"
    elsewhere = "".join(
        f"- The weights of `{part}` are not in `model.safetensors`; SHA-256 `{sha256}`\n"
        for part, sha256 in config.get(ELSEWHERE, {}).items()
    )
    withheld = "".join(
        f"\n| {share} | {row['confidence']:.2f} | {100 * row['accuracy']:.1f} % |"
        for share, row in config.get("withholding", {}).items()
    )
    if withheld:
        head = "\n| withheld on dev | confidence under | right of the others |\n|---:|---:|---:|"
        withheld = f"{head}{withheld}\n\nTo withhold them: `affetto predict --withhold 20%`.\n"
    return f"""---
library_name: affetto
pipeline_tag: audio-classification
tags: [speech-emotion-recognition]
---

# Speech emotion recogniser ({config["encoder"]})
{dependent if config["speaker_dependent"] else ""}
- {kind}: {labels}
- Protocol: `{config["protocol"]}`; {score}, by which it was chosen;
  others will score lower, as the report of `affetto evaluate` says
- Speakers trained on with labels: {len(config["speakers_seen"]["with_labels"])} (listed in `config.json`)
- {origin}
- Manifest hash: `{config["manifest_sha256"]}`
{elsewhere}- Made by affetto {__version__}
{withheld}
```python
from affetto import Recogniser

recogniser = Recogniser.from_pretrained("PATH/OF/THIS/FOLDER")
print(recogniser.predict("recording.wav"))
```

It says what acted or spoken speech sounds like, in the words or numbers of its corpus. It does not say
what a person feels, and is unproved on languages, microphones, ages and manners of speech that its
corpus lacks.

## What it is not for

- Deciding anything about a person.
- Inferring emotions at work or in education, which Article 5(1)(f) of the EU's AI Act (Regulation
  2024/1689) bans except for medical or safety reasons. Other uses have duties under the same act.
"""
