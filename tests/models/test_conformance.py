"""Neither padding nor batch mates change an answer: one test over every encoder and every embedder."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from affetto.features import FrontEnd
from affetto.models.embedders import (
    DVectorSettings,
    EmbedderSettings,
    FunctionalsSettings,
    JoinedSettings,
    NetworkSettings,
    StatisticsSettings,
    build_embedder,
    build_encoder,
)
from affetto.models.encoder import EncoderShape
from affetto.models.ge2e import Ge2eSettings, Ge2eSpectrumSettings
from affetto.models.hub_encoders import Wav2Vec2Settings, WhisperSettings
from affetto.models.logmel import CnnSettings, FilterbankSettings, TdnnSettings
from affetto.models.masked_encoders import MockingjaySettings, NpcSettings
from affetto.models.whisper import WhisperBlocksSettings

CNN = CnnSettings(width=16, blocks=2, bins=40)
GE2E = Ge2eSettings(hidden=16)
WAV2VEC2 = Wav2Vec2Settings(
    shape={
        "model_type": "wav2vec2",
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "conv_dim": [8, 8, 8],
        "conv_stride": [5, 8, 8],
        "conv_kernel": [10, 8, 8],
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
        "feat_extract_norm": "group",  # which looks at all of an utterance
    },
    normalise=True,
)
WHISPER = WhisperSettings(
    shape={
        "model_type": "whisper",
        "d_model": 16,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_layers": 1,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "num_mel_bins": 20,
        "max_source_positions": 100,
    },
    inputs={"sampling_rate": 16_000, "chunk_length": 2, "hop_length": 160, "n_fft": 400, "feature_size": 20},
)
ENCODERS = {
    "cnn": CNN,
    "tdnn": TdnnSettings(width=16, blocks=2, bins=20, stack=3),
    "ge2e": GE2E,
    "ge2e, every frame": Ge2eSettings(hidden=16, stride=1),
    "ge2e-spectrum": Ge2eSpectrumSettings(hidden=16, bins=20, stride=3),
    "mockingjay": MockingjaySettings(width=16, blocks=2, heads=2, feed_forward=24, bins=20, stack=3),
    "mockingjay, fbank": MockingjaySettings(
        width=16, blocks=1, heads=4, feed_forward=24, bins=12, stack=1, front_end="fbank", deltas=2
    ),
    "npc": NpcSettings(width=16, bins=20),
    "filterbank": FilterbankSettings(bins=20),
    "npc, stacked": NpcSettings(width=16, bins=20, cmvn=False, stack=3, blocks=2, kernel=9, hidden=3),
    "wav2vec2": WAV2VEC2,
    "whisper": WHISPER,  # the longest utterance in two parts
    "whisper-blocks": WhisperBlocksSettings(blocks=2, width=16, heads=2, feed_forward=24, bins=20),
    "whisper, filled": WHISPER.model_copy(update={"window": 1}),
}
EMBEDDERS: dict[str, EmbedderSettings] = {
    "functionals": FunctionalsSettings(bins=12),
    "d-vector": DVectorSettings(hidden=16),
    "statistics of cnn": StatisticsSettings(encoder=CNN),
    "statistics of ge2e": StatisticsSettings(encoder=GE2E),
    "probe": NetworkSettings(encoder=GE2E, layers="weighted", pooling="mean", norm=False),
    "probe, projector": NetworkSettings(
        encoder=GE2E, layers="weighted", pooling="mean", norm=False, projector=6
    ),
    "layer 1": NetworkSettings(encoder=CNN, layers=1, context=1, width=12),
    "last layer": NetworkSettings(encoder=CNN, layers="last"),
    "all layers, context": NetworkSettings(encoder=GE2E, layers="all", context=2, width=12),
    "spectrum, context": NetworkSettings(
        encoder=ENCODERS["ge2e-spectrum"], layers="all", context=1, width=12, pooling="statistics"
    ),
    "wav2vec2": NetworkSettings(encoder=WAV2VEC2, layers="weighted", pooling="statistics"),
    "joined": JoinedSettings(
        parts=(FunctionalsSettings(bins=8), StatisticsSettings(encoder=GE2E), NetworkSettings(encoder=CNN))
    ),
}
SECONDS = (0.01, 0.4, 1.9, 2.7)


@pytest.fixture(scope="module")
def speech() -> tuple[Tensor, Tensor]:
    """Harmonics that rise and swell in noise, of several lengths, zero past the end of each."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([round(16_000 * seconds) for seconds in SECONDS])
    waveforms = torch.zeros(len(SECONDS), int(lengths.max()))
    for row, length in enumerate(lengths.tolist()):
        time = torch.arange(length) / 16_000
        pitch = 110 * (row + 1) * (1 + 0.2 * torch.sin(6 * time))
        phase = 2 * torch.pi * torch.cumsum(pitch, 0) / 16_000
        voice = torch.stack([torch.sin(k * phase) / k for k in range(1, 9)]).sum(0)
        swell = 0.05 + 0.2 * torch.sin(3 * time).abs()
        waveforms[row, :length] = swell * voice + 0.01 * torch.randn(length, generator=generator)
    return waveforms, lengths


def features(front_end: FrontEnd, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Features with NaN in their padding, so that whoever looks there is found out."""
    values, frames = front_end(waveforms, lengths)
    values = torch.nn.functional.pad(values, (0, 0, 0, 7))
    past = torch.arange(values.shape[1])[None] >= frames[:, None]
    return values.masked_fill(past.unsqueeze(-1), torch.nan), frames


def shuffle_weights(module: nn.Module) -> None:
    """Moves every parameter away from its beginning, where some terms would vanish."""
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_see_one_utterance_only(name: str, speech: tuple[Tensor, Tensor]) -> None:
    encoder = build_encoder(ENCODERS[name]).eval()
    shuffle_weights(encoder)
    waveforms, lengths = speech
    with torch.no_grad():
        together = encoder(*features(encoder.front_end, waveforms, lengths))
        for row, length in enumerate(lengths.tolist()):
            single = encoder(*encoder.front_end(waveforms[row : row + 1, :length], lengths[row : row + 1]))
            frames = int(single.lengths[0])
            assert frames == int(together.lengths[row])
            assert abs(frames * encoder.hop_seconds - SECONDS[row]) < 0.05 + encoder.hop_seconds
            for one, all_rows in zip(single.layers, together.layers, strict=True):
                torch.testing.assert_close(all_rows[row, :frames], one[0, :frames], atol=1e-5, rtol=1e-5)
                assert not all_rows[row, frames:].any()
    assert [layer.shape[2] for layer in together.layers] == list(encoder.layer_dims)
    assert together.values.shape[2] == encoder.dim


@pytest.mark.parametrize("name", EMBEDDERS)
def test_embedders_see_one_utterance_only(name: str, speech: tuple[Tensor, Tensor]) -> None:
    embedder = build_embedder(EMBEDDERS[name]).eval()
    shuffle_weights(embedder)
    waveforms, lengths = speech
    with torch.no_grad():
        together = embedder(*features(embedder.front_end, waveforms, lengths))
        alone = torch.cat(
            [
                embedder(*embedder.front_end(waveforms[row : row + 1, :length], lengths[row : row + 1]))
                for row, length in enumerate(lengths.tolist())
            ]
        )
    assert together.shape == (len(SECONDS), embedder.dim)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    # Utterances do differ: an embedder that ignores its input would pass what is above.
    assert (together[1] - together[3]).abs().max() > 1e-3


@pytest.mark.parametrize("name", EMBEDDERS)
def test_the_order_of_a_batch_does_not_matter(name: str, speech: tuple[Tensor, Tensor]) -> None:
    embedder = build_embedder(EMBEDDERS[name]).eval()
    waveforms, lengths = speech
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        straight = embedder(*embedder.front_end(waveforms, lengths))
        mixed = embedder(*embedder.front_end(waveforms[order], lengths[order]))
    torch.testing.assert_close(mixed, straight[order], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("shape", "millions"), [(CnnSettings(), 15.5), (TdnnSettings(), 6.4)])
def test_a_second_of_speech_costs_what_the_docs_say(shape: EncoderShape, millions: float) -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        build_encoder(shape).eval()(torch.randn(1, 800, 80), torch.tensor([800]))  # 8 seconds
    assert counter.get_total_flops() / 2 / 8e6 == pytest.approx(millions, abs=0.05)
