"""The model card that lies beside a recogniser's weights."""

from typing import Any


def model_card(config: dict[str, Any]) -> str:
    """Returns the README of a recogniser folder, drawn from its ``config.json``."""
    labels = ", ".join(config["labels"])
    stamp = (
        "\n**speaker-dependent**: trained on speakers that it was also tested on.\n"
        if config["speaker_dependent"]
        else ""
    )
    elsewhere = (
        "The encoder's weights come from elsewhere; which speakers they saw is unknown."
        if config["weights_from_elsewhere"]
        else "Trained from scratch."
    )
    left_out = (
        f"- Known by their words alone, never heard: {', '.join(config['left_out'])}\n"
        if config.get("left_out")
        else ""
    )
    kind = "Dimensions" if "dev_ccc" in config else "Classes"
    score = (
        f"concordance (CCC) on its dev speakers {config['dev_ccc']:.2f}"
        if "dev_ccc" in config
        else f"UAR on its dev speakers {100 * config['dev_uar']:.1f} %"
    )
    return f"""---
library_name: affetto
pipeline_tag: audio-classification
tags: [speech-emotion-recognition]
---

# Speech emotion recogniser ({config["encoder"]})
{stamp}
- {kind}: {labels}
{left_out}- Protocol: `{config["protocol"]}`; {score}, by which it was chosen;
  others will score lower, as the report of `affetto evaluate` says
- Speakers heard with labels: {len(config["speakers_seen"]["with_labels"])} (listed in `config.json`)
- {elsewhere}
- Manifest hash: `{config["manifest_sha256"]}`
- Made by affetto {config["affetto_version"]}

```python
from affetto import Recogniser

recogniser = Recogniser.from_pretrained("PATH/OF/THIS/FOLDER")
print(recogniser.predict("recording.wav"))
```

It tells what acted or spoken speech sounds like, in the words or numbers of its corpus. It does not tell
what a person feels, and says nothing about languages, microphones or ages that its corpus lacks.
"""
