"""Published weights come without the package's code; the d-vector equals a slow computation, one by one."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from affetto.errors import CheckpointError, MissingPackageError
from affetto.models import ge2e
from affetto.models.embedders import Network, NetworkSettings, load_published
from affetto.models.ge2e import DVector, Ge2e, Ge2eSettings, published_weights


@pytest.fixture(scope="module")
def mel() -> tuple[Tensor, Tensor]:
    """Mel power of three lengths: less than a window, a bit more than one, several."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([90, 210, 530])
    values = torch.rand(3, 530, 40, generator=generator).pow(4)
    for row, length in enumerate(lengths.tolist()):
        values[row, length:] = 0
    return values, lengths


def slow_vector(features: Tensor) -> Tensor:
    """One utterance, window by window, through torch's own three-layer LSTM; two frames are past its end."""
    weights = published_weights()
    lstm, linear = nn.LSTM(40, 256, 3, batch_first=True), nn.Linear(256, 256)
    lstm.load_state_dict({name[5:]: value for name, value in weights.items() if name.startswith("lstm.")})
    linear.load_state_dict({name[7:]: value for name, value in weights.items() if name.startswith("linear.")})
    vectors, start, frames = [], 0, len(features) - 2
    while True:
        window = features[start : start + 160]
        if start and frames - start - 1 < 0.75 * 160:
            break
        padded = torch.zeros(160, 40)
        padded[: len(window)] = window
        _, (hidden, _) = lstm(padded[None])
        vector = torch.relu(linear(hidden[-1, 0]))
        vectors.append(vector / vector.norm())
        if start + 160 >= frames:
            break
        start += 77
    mean = torch.stack(vectors).mean(0)
    return mean / mean.norm()


def test_the_d_vector_is_that_of_a_slow_computation(mel: tuple[Tensor, Tensor]) -> None:
    embedder = load_published(DVector()).eval()
    features, lengths = mel
    with torch.no_grad():
        vectors = embedder(features, lengths)
        for row, length in enumerate(lengths.tolist()):
            torch.testing.assert_close(
                vectors[row], slow_vector(features[row, :length]), atol=1e-5, rtol=1e-4
            )
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


def test_published_weights_fill_every_ge2e_inside() -> None:
    network = Network(NetworkSettings(encoder=Ge2eSettings(), layers="all", context=1))
    load_published(network)
    assert isinstance(network.encoder, Ge2e)
    weights = published_weights()
    own = network.encoder.state_dict()
    assert torch.equal(own["lstms.2.weight_hh_l0"], weights["lstm.weight_hh_l2"])
    assert torch.equal(own["projection.bias"], weights["linear.bias"])
    assert sum(tensor.numel() for tensor in own.values()) == pytest.approx(1.42e6, rel=0.01)


def test_another_shape_does_not_take_the_published_weights() -> None:
    with pytest.raises(CheckpointError, match="do not fit"):
        Ge2e(Ge2eSettings(hidden=8)).load_published()


def test_a_missing_package_comes_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(ge2e, "distribution", missing)
    with pytest.raises(MissingPackageError, match="pip install --no-deps Resemblyzer"):
        Ge2e().load_published()


def test_a_package_without_its_weights_or_with_a_pickle_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ge2e, "distribution", lambda name: SimpleNamespace(files=[]))
    with pytest.raises(CheckpointError, match=r"holds no pretrained.pt"):
        published_weights()
    file = tmp_path / "pretrained.pt"
    torch.save({"model_state": {"lstm": Trap()}}, file)
    entry = SimpleNamespace(name="pretrained.pt", locate=lambda: file)
    monkeypatch.setattr(ge2e, "distribution", lambda name: SimpleNamespace(files=[entry]))
    with pytest.raises(CheckpointError, match="cannot be read"):
        published_weights()


class Trap:
    """Anything but tensors: must not be unpickled."""
