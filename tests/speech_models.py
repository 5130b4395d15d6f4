"""Tiny models of transformers with random weights, made on the spot."""

from pathlib import Path

import torch


def save_tiny(
    folder: Path, stem: str, head: str, norm: str, *, normalise: bool = True, rate: int = 16_000
) -> Path:
    """Writes a model of two layers and its preprocessor, e.g. ``"WavLM"`` with ``"ForXVector"``."""
    import transformers

    config = getattr(transformers, f"{stem}Config")(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8, 8, 8),
        conv_stride=(5, 8, 8),
        conv_kernel=(10, 8, 8),
        num_feat_extract_layers=3,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        conv_pos_kernel_size=3,
        tdnn_dim=(16, 16, 16, 16, 24),
        xvector_output_dim=12,
        **({} if stem == "Data2VecAudio" else {"feat_extract_norm": norm}),
        do_stable_layer_norm=norm == "layer",
    )
    network = getattr(transformers, f"{stem}{head}")(config)
    for parameter in network.parameters():  # the usual beginning is so small that all answers are alike
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=(1.5 / parameter[0].numel()) ** 0.5)
    network.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise, sampling_rate=rate).save_pretrained(folder)
    return folder


def save_tiny_whisper(folder: Path, windows: int) -> Path:
    """Writes a Whisper of two layers that listens to so many hundredths of a second at once."""
    import transformers

    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=80, vocab_size=40,
        max_source_positions=windows // 2,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    transformers.WhisperModel(config).save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=80, chunk_length=windows // 100).save_pretrained(folder)
    return folder
