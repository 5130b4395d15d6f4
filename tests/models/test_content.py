"""What is said, as vectors: against plain loops, for any length, in any company."""

import numpy as np
import torch

from affetto.models.encoder import Encoder, Frames
from affetto.models.ge2e import Course, Ge2e, Ge2eSettings
from affetto.models.logmel import Cnn, CnnSettings


class Passes(Encoder):
    """An encoder that gives back what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.front_end, self.dim, self.layer_dims, self.hop_seconds = Ge2e().front_end, 40, (40,), 0.01

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> Frames:
        return Frames((features,), lengths)


def test_means_of_parts_minus_the_mean_of_all() -> None:
    values = torch.randn(1, 12, 40, generator=torch.Generator().manual_seed(1))
    found = Course(Passes(), 0, 4)(values, torch.tensor([12])).view(4, 40).numpy()
    rows = values[0].numpy()
    expected = np.stack([rows[3 * part : 3 * part + 3].mean(0) for part in range(4)]) - rows.mean(0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_edges_of_parts_may_fall_within_frames() -> None:
    values = torch.arange(3.0)[None, :, None].expand(1, 3, 40)
    found = Course(Passes(), 0, 2)(values, torch.tensor([3])).view(2, 40)[:, 0]
    # Half of the middle frame goes to each part: (0 + 0.5 * 1) / 1.5 and (0.5 * 1 + 2) / 1.5, minus 1.
    torch.testing.assert_close(found, torch.tensor([-2 / 3, 2 / 3]))


def test_neither_padding_nor_batch_mates_change_it() -> None:
    torch.manual_seed(0)
    course = Course(Ge2e(Ge2eSettings(hidden=12)), 1, 8).eval()
    lengths = torch.tensor([3, 60, 171])  # the first has fewer frames than parts
    values = torch.rand(3, 171, 40)
    for row, length in enumerate(lengths):
        values[row, length:] = 0
    with torch.no_grad():
        together = course(values, lengths)
        longer = course(torch.nn.functional.pad(values, (0, 0, 0, 50)), lengths)
        alone = torch.cat([course(values[row : row + 1, :n], n[None]) for row, n in enumerate(lengths)])
    assert together.shape == (3, course.dim) == (3, 8 * 12)
    torch.testing.assert_close(longer, together, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-4)


def test_any_layer_of_any_encoder() -> None:
    cnn = Cnn(CnnSettings(width=16, blocks=2, bins=20)).eval()
    features, lengths = cnn.front_end(torch.randn(2, 16_000), torch.tensor([16_000, 9_000]))
    with torch.no_grad():
        assert Course(cnn, 0, 3)(features, lengths).shape == (2, 3 * cnn.layer_dims[0])
