"""Makes the recognisers that come with affetto, in the package itself.

    python experiments/recognisers.py small --manifest crema-d.csv
    python experiments/recognisers.py base --manifest crema-d.csv

The settings are those of `recognisers.yaml`, the protocol is `all-speakers`. The same command on the same
machine gives the same bytes. Figures on a model card are those of `recognisers*.json`, which `affetto
experiment` writes.

`small` has an encoder of its own: the convolutions and the first two blocks of Whisper base, with weights as
8-bit numbers. `--keep-encoder` leaves this part as it is.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import load_file, save

from affetto.config import merge, read
from affetto.corpora.manifest import Manifest
from affetto.finetuning.run import finetune
from affetto.finetuning.settings import finetune_settings
from affetto.finetuning.task import model_card
from affetto.models.checkpoint import CONFIG, RECOGNISER, SHIPPED_FOLDER, WEIGHTS, WITHOUT_GE2E, read_config
from affetto.models.whisper import ENCODER_WEIGHTS, WhisperBlocks, WhisperBlocksSettings, in_whole_numbers
from affetto.runs import write_json

HERE = Path(__file__).parent
WHISPER = "openai/whisper-base"

MADE_FROM = "CREMA-D: 91 speakers, acted North American English"  # what affetto says where none is named

LICENCES = f"""
## Data, weights and licences

- **CREMA-D** (Cao et al. 2014): 91 actors, acted North American English, studio recordings, six emotions as
  the actors intended them. Contains information from CREMA-D, which is made available under the
  [Open Database License](https://opendatacommons.org/licenses/odbl/1-0/). No recording is in this folder.
- **Whisper base** (Radford et al. 2022, OpenAI; MIT, and as `{WHISPER}` on the Hugging Face hub
  Apache-2.0): {{whisper}}
{{ge2e}}- This folder: Apache-2.0, as affetto.
"""
OWN_WHISPER = "`encoder.safetensors` holds its convolutions and first two blocks, in 8 bits."
ALL_WHISPER = "the means over time of layers 2 to 6 of its encoder are what the head reads."
GE2E = (
    "- **GE2E** (Wan et al. 2018), the weights of Resemblyzer (Apache-2.0), in addition. "
    f"Without that package the recogniser in `{WITHOUT_GE2E}` is loaded, and answers differ.\n"
)

# Under which names the same settings were scored on other corpora.
ELSEWHERE = {
    method: [f"{name} to {corpus}" for corpus in ("RAVDESS", "EMO-DB")]
    for method, name in (
        ("small", "small,"),
        ("base", "Whisper base + GE2E, CREMA-D"),
        ("base, without GE2E", "Whisper base means, CREMA-D"),
    )
}


def main() -> None:
    """Makes one of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=["small", "base"])
    parser.add_argument("--manifest", type=Path, required=True, help="CREMA-D, from affetto scan")
    parser.add_argument("--keep-encoder", action="store_true", help="do not make the encoder of small anew")
    given = parser.parse_args()
    torch.set_num_threads(1)  # so that sums have one order
    folder, manifest = SHIPPED_FOLDER / given.name, Manifest.read(given.manifest)
    folder.mkdir(parents=True, exist_ok=True)
    if given.name == "small":
        if not given.keep_encoder:
            first_blocks(folder / ENCODER_WEIGHTS)
        make("small", manifest, folder)
    else:
        make("base", manifest, folder)
        make("base, without GE2E", manifest, folder / WITHOUT_GE2E)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size:,} bytes")


def make(method: str, manifest: Manifest, folder: Path) -> None:
    """Trains a row of the experiment on all speakers, and copies the recogniser with its card."""
    plan = read(HERE / "recognisers.yaml")
    own = next(row["settings"] for row in plan["rows"] if row["method"] == method)
    settings = finetune_settings(**merge(plan["settings"], own) | {"protocol": "all-speakers"})
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as out:  # a run that is there already would not be made anew
        made = finetune(manifest, settings, out, device="cpu") / RECOGNISER
        write_json(folder / CONFIG, read_config(made) | {"made_from": MADE_FROM})
        # Matrices in 16 bits; means and deviations need all their digits, and loading takes either.
        tensors = load_file(made / WEIGHTS).items()
        halved = {name: each.half() if each.ndim > 1 else each for name, each in tensors}
        (folder / WEIGHTS).write_bytes(save(halved, metadata={"format": "pt"}))
    (folder / "README.md").write_text(card(method, read_config(folder)), encoding="utf-8")


def card(method: str, config: dict[str, Any]) -> str:
    """Returns the model card: the usual one, figures, and where data and weights come from."""
    name, ge2e = method.split(",")[0], GE2E if method == "base" else ""
    usual = model_card(config).replace("PATH/OF/THIS/FOLDER", name)
    usual = usual.replace("library_name: affetto\n", "library_name: affetto\nlicense: apache-2.0\n", 1)
    whisper = OWN_WHISPER if name == "small" else ALL_WHISPER
    return usual + figures(method) + LICENCES.format(whisper=whisper, ge2e=ge2e)


def figures(method: str) -> str:
    """Returns the table of what this method reached, where it was measured."""
    rows = []
    for file in (*sorted(HERE.glob("recognisers*.json")), HERE / "encoders-other-corpora.json"):
        rows += [row for row in json.loads(file.read_text()) if row["method"] in (method, *ELSEWHERE[method])]
    if not rows:
        return ""
    lines = [
        "\n## Measured\n",
        "With the same settings, on speakers that it was not trained on; percent, with 95 % intervals. "
        "Settings were found on these corpora, so figures on others may be lower.\n",
        "| protocol | enrolled | UAR | accuracy |",
        "|---|---:|---:|---:|",
    ]
    for row in rows:
        uar, war = (
            f"{100 * row[key]:.1f} [{100 * row[f'{key}_low']:.1f}, {100 * row[f'{key}_high']:.1f}]"
            for key in ("uar", "war")
        )
        lines.append(f"| `{row['protocol']}` | {row['enrolment'] or 'none'} | {uar} | {war} |")
    return "\n".join(lines) + "\n"


def first_blocks(file: Path) -> None:
    """Writes the first blocks of Whisper base."""
    source = snapshot_download(WHISPER, allow_patterns=["config.json", "model.safetensors"])
    blocks = WhisperBlocks(WhisperBlocksSettings(model=source))
    blocks.load_published()
    tensors = {name: each.contiguous() for name, each in blocks.network.state_dict().items()}
    file.write_bytes(save(in_whole_numbers(tensors)))


if __name__ == "__main__":
    main()
