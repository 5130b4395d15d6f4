"""Makes the recognisers that come with affetto, in the package itself.

    python experiments/recognisers.py small --manifest crema-d.csv
    python experiments/recognisers.py base --manifest crema-d.csv

The settings are those of `recognisers.yaml`, the protocol is `all-speakers`. The same command on the same
machine gives the same bytes. Figures on a model card are those of `recognisers*.json`, which `affetto
experiment` writes.

`small` has an encoder of its own: the convolutions and the first two blocks of Whisper base. Of the 2,048
neurons of each block those stay that the block can least do without on recordings of CREMA-D (training
speakers of `crema-d-6-evar`, without labels): one after the other goes whose absence, once the second matrix
is fitted anew, changes the block's output least, each dimension in units of its deviation. Weights are stored
as 8-bit numbers. `--keep-encoder` leaves this part as it is.
"""

import argparse
import copy
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from affetto.config import merge, read
from affetto.corpora.manifest import Manifest
from affetto.finetuning.card import model_card
from affetto.finetuning.run import finetune
from affetto.finetuning.settings import finetune_settings
from affetto.material.forward import batches_by_length
from affetto.material.recordings import Recordings
from affetto.models.checkpoint import CONFIG, RECOGNISER, SHIPPED_FOLDER, WEIGHTS, WITHOUT_GE2E, read_config
from affetto.models.encoder import frame_mask
from affetto.models.whisper import ENCODER_WEIGHTS, WhisperBlocks, WhisperBlocksSettings, in_whole_numbers
from affetto.protocols.protocol import load_protocol

HERE = Path(__file__).parent
WHISPER, PUBLISHED_NEURONS = "openai/whisper-base", 2048
RECORDINGS = 600  # on which neurons are chosen
SILENCE = 16_000  # samples before and after every other recording
RIDGE = 1e-4  # of the mean square of a neuron

LICENCES = f"""
## Data, weights and licences

- **CREMA-D** (Cao et al. 2014): 91 actors, acted North American English, studio recordings, six emotions as
  the actors intended them. Contains information from CREMA-D, which is made available under the
  [Open Database License](https://opendatacommons.org/licenses/odbl/1-0/). No recording is in this folder.
- **Whisper base** (Radford et al. 2022, OpenAI; MIT, and as `{WHISPER}` on the Hugging Face hub
  Apache-2.0): {{whisper}}
{{ge2e}}- This folder: Apache-2.0, as affetto.
"""
OWN_WHISPER = (
    "`encoder.safetensors` holds its convolutions and first two blocks, with fewer neurons, in 8 bits."
)
ALL_WHISPER = "the means over time of layers 2 to 6 of its encoder are what the head reads."
GE2E = (
    "- **GE2E** (Wan et al. 2018), the weights of Resemblyzer (Apache-2.0), in addition. "
    f"Without that package the recogniser in `{WITHOUT_GE2E}` is loaded, and answers differ.\n"
)


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
            cut_whisper(manifest, WhisperBlocksSettings(), folder / ENCODER_WEIGHTS)
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
        shutil.copy(made / CONFIG, folder / CONFIG)
        # Matrices in 16 bits; means and deviations need all their digits, and loading takes either.
        tensors = load_file(made / WEIGHTS).items()
        halved = {name: each.half() if each.ndim > 1 else each for name, each in tensors}
        (folder / WEIGHTS).write_bytes(save(halved, metadata={"format": "pt"}))
    (folder / "README.md").write_text(card(method, read_config(folder)), encoding="utf-8")


def card(method: str, config: dict[str, Any]) -> str:
    """Returns the model card: the usual one, figures, and where data and weights come from."""
    name, ge2e = method.split(",")[0], GE2E if method == "base" else ""
    usual = model_card(config).replace("PATH/OF/THIS/FOLDER", name)
    whisper = OWN_WHISPER if name == "small" else ALL_WHISPER
    return usual + figures(method) + LICENCES.format(whisper=whisper, ge2e=ge2e)


def figures(method: str) -> str:
    """Returns the table of what this method reached, where it was measured."""
    files = sorted(HERE.glob("recognisers*.json"))
    rows = [row for file in files for row in json.loads(file.read_text()) if row["method"] == method]
    if not rows:
        return ""
    lines = [
        "\n## Measured\n",
        "With the same settings, on speakers that it was not trained on; percent, with 95 % intervals.\n",
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


def cut_whisper(manifest: Manifest, shape: WhisperBlocksSettings, file: Path) -> None:
    """Writes the first blocks of Whisper base with as few neurons as ``shape`` has."""
    source = snapshot_download(WHISPER, allow_patterns=["config.json", "model.safetensors"])
    whole = shape.model_copy(update={"model": source, "feed_forward": PUBLISHED_NEURONS})
    teacher = WhisperBlocks(whole)
    teacher.load_published()
    teacher.eval().requires_grad_(False)
    protocol = load_protocol("crema-d-6-evar")
    recordings = Recordings(protocol.select(manifest), "cpu")
    rows = recordings.rows(protocol.folds(recordings.manifest)[0].train)
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:RECORDINGS])
    waveforms = [torch.from_numpy(np.array(recordings.waveforms[row])) for row in rows]
    # CREMA-D has hardly any silence. Other recordings begin and end in it, and neurons must serve these too.
    waveforms[::2] = [F.pad(each, (SILENCE, SILENCE)) for each in waveforms[::2]]
    student = copy.deepcopy(teacher)
    for number, block in enumerate(student.network.layers):
        gram, cross, spread = sums(teacher, student, number, waveforms)
        kept = chosen(gram, cross / spread, shape.feed_forward)
        weight, bias = fitted(gram, cross, kept)
        narrow = block.fc1.weight[kept], block.fc1.bias[kept], weight, bias
        block.fc1, block.fc2 = (
            torch.nn.Linear(shape.width, len(kept)),
            torch.nn.Linear(len(kept), shape.width),
        )
        with torch.no_grad():
            for parameter, values in zip(
                (*block.fc1.parameters(), *block.fc2.parameters()), narrow, strict=True
            ):
                parameter.copy_(values)
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: each.contiguous() for name, each in student.network.state_dict().items()}
    file.write_bytes(save(in_whole_numbers(tensors)))


@torch.inference_mode()
def sums(
    teacher: WhisperBlocks, student: WhisperBlocks, number: int, waveforms: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns means over frames of what a block's second matrix is fitted on, ``H`` neurons and a constant.

    They are the products of the neurons, ``(H + 1, H + 1)``, their products with what the student lacks to
    the teacher's output of this block, ``(H + 1, D)``, and the deviation of that output, ``(D,)``.
    """
    block, read = student.network.layers[number], list[tuple[Tensor, Tensor]]()
    hook = block.final_layer_norm.register_forward_hook(lambda _, given, made: read.append((given[0], made)))
    size = block.fc1.out_features + 1
    gram, cross, moments = (torch.zeros(size, size).double(), torch.zeros(size, teacher.dim).double(), 0.0)
    frames = 0
    for batch, lengths in batches(waveforms):
        target, found = teacher(batch, lengths).layers[number + 1], student(batch, lengths)
        mask = frame_mask(found.lengths, target.shape[1])[:, :, 0].bool()
        before, normed = (each[mask] for each in read.pop())
        neurons = F.pad(F.gelu(block.fc1(normed)), (0, 1), value=1.0)
        target = target[mask]
        gram += (neurons.T @ neurons).double()
        cross += (neurons.T @ (target - before)).double()
        moments = moments + torch.stack([target.double().sum(0), target.double().square().sum(0)])
        frames += len(target)
    hook.remove()
    mean, square = moments / frames
    return gram / frames, cross / frames, (square - mean.square()).sqrt()


def batches(waveforms: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields batches of similar lengths, ``(B, S, 1)``, with their lengths."""
    for rows in batches_by_length([len(each) for each in waveforms], WhisperBlocks.batch_seconds):
        own = [waveforms[row] for row in rows.tolist()]
        yield pad_sequence(own, batch_first=True)[:, :, None], torch.tensor([len(each) for each in own])


def chosen(gram: Tensor, cross: Tensor, count: int) -> Tensor:
    """Returns which neurons stay: the one whose absence costs least goes, until ``count`` are left.

    With the inverse ``P`` of the products and the fitted weights ``W``, the absence of neuron ``n`` costs
    ``|W[n]|^2 / P[n, n]`` (Hassibi & Stork 1993, "Optimal Brain Surgeon").
    """
    inverse = torch.linalg.inv(with_ridge(gram))
    weight = inverse @ cross
    alive = torch.ones(len(gram), dtype=torch.bool)
    while alive.sum() > count + 1:
        costs = weight.square().sum(1) / inverse.diagonal()
        costs[-1] = torch.inf  # the constant stays
        goes = int(costs.masked_fill(~alive, torch.inf).argmin())
        column = inverse[:, goes].clone()
        weight -= torch.outer(column, weight[goes] / column[goes])
        inverse -= torch.outer(column, column / column[goes])
        alive[goes] = False
        inverse[goes, goes] = 1.0
    return alive[:-1].nonzero()[:, 0]


def fitted(gram: Tensor, cross: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the second matrix, ``(D, H)``, and its bias for the neurons that stay."""
    rows = torch.cat([kept, torch.tensor([len(gram) - 1])])
    solved = torch.linalg.solve(with_ridge(gram)[rows][:, rows], cross[rows])
    return solved[:-1].T.float(), solved[-1].float()


def with_ridge(gram: Tensor) -> Tensor:
    """Adds a ridge to the products of neurons, not to the constant."""
    ridge = gram.diagonal().mean() * RIDGE
    return gram + torch.diag(F.pad(ridge.expand(len(gram) - 1), (0, 1)))


if __name__ == "__main__":
    main()
