"""The contrastive loss against slow loops, for every kind of positive; several processes as one."""

import math

import pytest
import torch
import torch.multiprocessing
from torch import Tensor

from affetto.models.encoder import Frames
from affetto.objectives.objective import Views
from affetto.objectives.views import Contrastive, ContrastiveSettings

SPEAKER = [0, 0, 0, 0, 0, 1, 1, 1]
GROUP = [0, 0, 1, 1, -1, 0, 0, 2]


def views(count: int = 8, dim: int = 6) -> Views:
    generator = torch.Generator().manual_seed(4)
    vectors = torch.randn(2 * count, dim, generator=generator)
    columns = {
        "speaker": torch.tensor(SPEAKER[:count] * 2),
        "group": torch.tensor(GROUP[:count] * 2),
        "vector": torch.randn(count, 3, generator=generator).repeat(2, 1),
    }
    lengths = torch.ones(2 * count, dtype=torch.long)
    frames = Frames((vectors[:, None],), lengths)
    return Views(vectors, frames, vectors[:, None], lengths, torch.arange(count).repeat(2), columns)


def task(settings: ContrastiveSettings, dim: int = 6) -> Contrastive:
    torch.manual_seed(0)
    return Contrastive(settings, dim)


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def slow(found: Contrastive, given: Views) -> float:
    """The loss by loops, item by item and positive by positive."""
    settings = found.settings
    projected = found.head(given.vectors).detach()
    speaker, group = given.columns["speaker"].tolist(), given.columns["group"].tolist()
    index, vector = given.index.tolist(), given.columns["vector"]
    total = 0.0
    for i in range(len(index)):
        others = [
            a
            for a in range(len(index))
            if a != i and (settings.candidates == "all" or speaker[a] == speaker[i])
        ]
        normaliser = sum(math.exp(cosine(projected[i], projected[a]) / settings.temperature) for a in others)
        weights = {}
        for p in others:
            together = group[p] == group[i] != -1 and (settings.matched or speaker[p] == speaker[i])
            if settings.positives == "similar":
                weights[p] = math.exp(cosine(vector[i], vector[p]) / settings.target_temperature)
            elif index[p] == index[i] or (settings.positives == "group" and together):
                weights[p] = 1.0
        for p, weight in weights.items():
            share = math.exp(cosine(projected[i], projected[p]) / settings.temperature) / normaliser
            total -= weight / sum(weights.values()) * math.log(share) / len(index)
    return total


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"temperature": 0.5},
        {"candidates": "all"},
        {"candidates": "all", "matched": True},
        {"positives": "view"},
        {"positives": "view", "candidates": "all"},
        {"positives": "similar", "target_temperature": 0.3},
        {"positives": "similar", "candidates": "all"},
    ],
)
def test_the_loss_is_that_of_slow_loops(given: dict[str, object]) -> None:
    found = task(ContrastiveSettings(**given))
    assert float(found(views())) == pytest.approx(slow(found, views()), rel=1e-5)


def test_pulling_a_cluster_together_lowers_the_loss() -> None:
    found, given = task(ContrastiveSettings(temperature=0.2)), views()
    before = float(found(given))
    optimiser = torch.optim.SGD(found.parameters(), lr=0.5)
    for _ in range(30):
        optimiser.zero_grad()
        found(given).backward()
        optimiser.step()
    assert float(found(given)) < before - 0.1


def test_items_all_alike_and_speakers_of_one_utterance_give_a_number() -> None:
    given = views()
    alike = Views(
        torch.ones_like(given.vectors),
        given.frames,
        given.features,
        given.lengths,
        given.index,
        {**given.columns, "speaker": torch.arange(8).repeat(2), "vector": torch.zeros(16, 3)},
    )
    for positives in ("group", "view", "similar"):
        loss = task(ContrastiveSettings(positives=positives))(alike)
        loss.backward()
        # The only candidate is the utterance's own second view.
        assert float(loss) == pytest.approx(0.0, abs=1e-5)


def part(given: Views, rows: list[int]) -> Views:
    index = torch.tensor(rows)
    columns = {name: column[index] for name, column in given.columns.items()}
    frames = Frames((given.frames.values[index],), given.lengths[index])
    return Views(
        given.vectors[index], frames, given.features[index], given.lengths[index], given.index[index], columns
    )


def one_of_two(rank: int, port: int, settings: dict[str, object], results: list[dict[str, Tensor]]) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    network = torch.nn.Linear(6, 6)
    torch.nn.init.eye_(network.weight)
    torch.nn.init.zeros_(network.bias)
    found = task(ContrastiveSettings(**settings))
    # Shares of unequal size, an utterance's two views in the same process.
    rows = [0, 2, 4, 8, 10, 12] if rank else [1, 3, 5, 6, 7, 9, 11, 13, 14, 15]
    own = part(views(), rows)
    loss = found(Views(network(own.vectors), own.frames, own.features, own.lengths, own.index, own.columns))
    loss.backward()
    gradients = [*(p.grad for p in network.parameters()), *(p.grad for p in found.parameters())]
    for gradient in [*gradients, loss.detach()]:
        assert gradient is not None
        gradient_mean = gradient.clone()
        torch.distributed.all_reduce(gradient_mean)
        results.append(gradient_mean / 2)
    torch.distributed.destroy_process_group()


def run_two(rank: int, port: int, settings: dict[str, object], file: str) -> None:
    results: list[dict[str, Tensor]] = []
    one_of_two(rank, port, settings, results)
    if rank == 0:
        torch.save(results, file)


@pytest.mark.parametrize("settings", [{}, {"positives": "similar", "candidates": "all"}])
def test_two_processes_are_one_on_the_same_batch(settings: dict[str, object], tmp_path: object) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = f"{tmp_path}/gradients.pt"
    torch.multiprocessing.spawn(run_two, args=(port, settings, file), nprocs=2)
    network = torch.nn.Linear(6, 6)
    torch.nn.init.eye_(network.weight)
    torch.nn.init.zeros_(network.bias)
    found, whole = task(ContrastiveSettings(**settings)), views()
    loss = found(
        Views(network(whole.vectors), whole.frames, whole.features, whole.lengths, whole.index, whole.columns)
    )
    loss.backward()
    expected = [*(p.grad for p in network.parameters()), *(p.grad for p in found.parameters()), loss.detach()]
    for one, two in zip(expected, torch.load(file, weights_only=True), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)
