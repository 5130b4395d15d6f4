"""What a step of masked pretraining costs, beside the same network from elsewhere or with full kernels.

    python benchmarks/masked.py [--rounds 5] [--seconds 4] [--utterances 4]

Three tables. Mockingjay at its published size, forward, backward and AdamW, beside the ``BertEncoder`` of
transformers of the same size between the same linear layers, both with torch's fused attention, on the same
padded batch; heads and masks are left out of both. NPC's four masked convolutions beside four full ones,
forward and backward. And what a step keeps for its way back, for twice and four times as many frames: the
bytes of all tensors that autograd saves. Rounds alternate, and medians are compared; on a busy machine the
ratio of processor times is the one to trust.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertEncoder

from affetto.models.encoder import Encoder
from affetto.models.masked_encoders import (
    MaskedConvolution,
    Mockingjay,
    MockingjaySettings,
    Npc,
    NpcSettings,
    positions,
)
from affetto.runs import write_text

Step = Callable[[], None]
BINS = 240


class Bert(nn.Module):
    """Transformers' encoder between the linear layer and norm that Mockingjay has."""

    def __init__(self, attention_dropout: float) -> None:
        super().__init__()
        config = BertConfig(
            hidden_size=768,
            num_hidden_layers=3,
            num_attention_heads=12,
            intermediate_size=3072,
            attention_probs_dropout_prob=attention_dropout,
            attn_implementation="sdpa",
        )
        self.input, self.norm = nn.Linear(BINS, 768), nn.LayerNorm(768)
        self.dropout, self.encoder = nn.Dropout(0.1), BertEncoder(config)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        frames = self.norm(self.input(features) + positions(features.shape[1], 768).to(features))
        seen = (torch.arange(features.shape[1], device=lengths.device) < lengths[:, None])[:, None, None]
        return self.encoder(self.dropout(frames), attention_mask=seen).last_hidden_state


def base(attention_dropout: float) -> Mockingjay:
    """Mockingjay as published; its attention forgets nothing unless told to."""
    return Mockingjay(
        MockingjaySettings(
            width=768,
            heads=12,
            feed_forward=3072,
            attention_dropout=attention_dropout,
            front_end="fbank",
            deltas=2,
            stack=1,
        )
    )


def drawn(utterances: int, frames: int, bins: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Features and lengths, from half of the frames to all of them."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.linspace(frames / 2, frames, utterances).long()
    return torch.randn(utterances, frames, bins, generator=generator).to(device), lengths.to(device)


def training(network: nn.Module, features: Tensor, lengths: Tensor) -> Step:
    """One step over the frames that are no padding."""
    network.to(features.device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    inside = (torch.arange(features.shape[1], device=lengths.device) < lengths[:, None])[:, :, None]

    def step() -> None:
        out = network(features, lengths)
        values = out if isinstance(out, Tensor) else out.values
        (values * inside).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def convolving(layers: list[nn.Module], frames: Tensor, channels_first: bool) -> Step:
    def step() -> None:
        given = frames.transpose(1, 2) if channels_first else frames
        torch.stack([layer(given) for layer in layers]).square().mean().backward()

    return step


def compared(ours: Step, theirs: Step, rounds: int, device: torch.device) -> str:
    """Cells of a row: milliseconds of each, and how many times as fast ours is, by both clocks."""

    def timed(step: Step) -> tuple[float, float]:
        began, worked = time.perf_counter(), time.process_time()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began, time.process_time() - worked

    for step in (ours, theirs):
        timed(step)
    pairs = [(timed(ours), timed(theirs)) for _ in range(rounds)]
    mine, other = (1000 * statistics.median(pair[which][0] for pair in pairs) for which in (0, 1))
    ratio, work = (
        statistics.median(second[clock] / first[clock] for first, second in pairs) for clock in (0, 1)
    )
    return f"{mine:.0f} | {other:.0f} | {ratio:.2f} | {work:.2f}"


def saved_bytes(encoder: Encoder, features: Tensor, lengths: Tensor) -> int:
    """Bytes of what autograd keeps of a forward pass, the weights left out."""
    weights = {p.untyped_storage().data_ptr() for p in encoder.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = encoder.to(features.device).train()(features, lengths)
    del result
    return sum(kept.values())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of the longest utterance")
    parser.add_argument("--utterances", type=int, default=4)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    frames, count, rounds = round(100 * arguments.seconds), arguments.utterances, arguments.rounds
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    text = (
        "# Masked pretraining\n\n"
        f"`python benchmarks/masked.py --rounds {rounds} --seconds {arguments.seconds:g} --utterances "
        f"{count}`: {where}, torch {torch.__version__}, transformers {transformers.__version__}; utterances "
        f"of {frames // 2} to {frames} frames, medians of alternating rounds.\n\n"
        "| | beside it | ms | ms of that | times as fast | by processor time | bar |\n"
        "|---|---|---:|---:|---:|---:|---:|\n"
    )
    features, lengths = drawn(count, frames, BINS, device)
    for share in (0.0, 0.1):
        pair = [training(made, features, lengths) for made in (base(share), Bert(share))]
        text += (
            f"| a step of Mockingjay base, attention dropout {share:g} | transformers' BertEncoder | "
            f"{compared(pair[0], pair[1], rounds, device)} | 0.95 |\n"
        )
    values = torch.randn(count, frames, 512, device=device).requires_grad_()
    masked: list[nn.Module] = [MaskedConvolution(512, 15, hidden).to(device) for hidden in (7, 9, 11, 13)]
    full: list[nn.Module] = [nn.Conv1d(512, 512, 15, padding=7).to(device) for _ in range(4)]
    ours, theirs = convolving(masked, values, False), convolving(full, values, True)
    text += (
        f"| NPC's four masked convolutions, width 512 | four of kernel 15 | "
        f"{compared(ours, theirs, rounds, device)} | 1.3 |\n\n"
        "| kept for the way back, MiB | frames | twice | four times | the last over the one before |\n"
        "|---|---:|---:|---:|---:|\n"
    )
    networks: dict[str, tuple[Encoder, int]] = {
        "Mockingjay base": (base(0.0), BINS),
        "NPC as published": (Npc(NpcSettings(width=512, front_end="fbank")), 80),
    }
    for name, (network, bins) in networks.items():
        sizes = [
            saved_bytes(network, *drawn(count, times * frames, bins, device)) / 2**20 for times in (1, 2, 4)
        ]
        text += f"| {name} | {sizes[0]:.0f} | {sizes[1]:.0f} | {sizes[2]:.0f} | {sizes[2] / sizes[1]:.2f} |\n"
    text += "\nLinear is 2. With attention dropout a CPU has no fused attention, and memory grows faster.\n"
    write_text(Path(__file__).with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
