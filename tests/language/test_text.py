"""Text encoders: what transformers says, one text at a time, and clear refusals."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from affetto.errors import AffettoError, CheckpointError, ConfigError
from affetto.language.clap import worded
from affetto.language.text import TextEncoder, TextSettings, mean_vectors
from text_models import save_tiny_text

TEXTS = ["a furious shout", "the voice sounds very tired , sad , bored", "neutral"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_text(tmp_path_factory.mktemp("text"))


def encoder(folder: Path, pooling: str = "mean") -> TextEncoder:
    settings = TextSettings.model_validate({"model": str(folder), "pooling": pooling})
    return TextEncoder(settings).load_published().eval()


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_it_says_what_transformers_says(folder: Path, pooling: str) -> None:
    import transformers

    ours = encoder(folder, pooling)(TEXTS)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text, vector in zip(TEXTS, ours, strict=True):
        hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        own = hidden.mean(0) if pooling == "mean" else hidden[0]
        torch.testing.assert_close(vector, own / own.norm(), atol=1e-5, rtol=1e-5)


def test_texts_that_differ_have_vectors_that_differ(folder: Path) -> None:
    found = encoder(folder)(TEXTS)
    assert (found @ found.T - torch.eye(3)).max() < 0.99
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))


def test_sets_are_mean_vectors(folder: Path) -> None:
    network = encoder(folder)
    one, two = network(["a sad voice", "a calm voice"])
    found = mean_vectors(network, [["a sad voice", "a calm voice"], ["a calm voice"]])
    torch.testing.assert_close(found[0], (one + two) / (one + two).norm(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], two, atol=1e-5, rtol=1e-5)


def test_what_is_not_known_leaves_no_gap() -> None:
    template = "a {intensity} {gender} speaker sounds {emotion}"
    assert worded(template, "anger", "female", "loud") == "a loud female speaker sounds angry"
    assert worded(template, "calm") == "a speaker sounds calm"


@pytest.mark.parametrize("text", ["", "  ", "sad " * 10_000])
def test_texts_that_cannot_be_read_are_refused(folder: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"empty text|tokens"):
        encoder(folder)(["a sad voice", text])


@pytest.mark.parametrize("template", ["no class", "{emotion} and {age}", "{emotion"])
def test_templates_that_say_something_else_are_refused(folder: Path, template: str) -> None:
    with pytest.raises(ValidationError, match="template"):
        TextSettings.model_validate({"model": str(folder), "templates": [template]})


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AffettoError, match="name its folder"):
        TextSettings.model_validate({"model": str(tmp_path / "nothing")})


def test_a_folder_that_lacks_its_weights_or_half_of_them_is_refused(folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    half = tmp_path / "half"
    shutil.copytree(folder, half)
    tensors = load_file(half / "model.safetensors")
    dropped = {name: each for name, each in tensors.items() if "layer.1" not in name}
    save_file(dropped, half / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="lacks weights"):
        encoder(half)
    whole = (folder / "model.safetensors").read_bytes()
    (half / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"folder does not give a model .* damaged again"):
        encoder(half)
    (half / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"folder does not give a model .* damaged again"):
        encoder(half)


def test_a_speech_model_is_no_text_encoder(tmp_path: Path) -> None:
    from speech_models import save_tiny

    with pytest.raises(AffettoError, match="text"):
        TextEncoder(
            TextSettings.model_validate({"model": str(save_tiny(tmp_path, "WavLM", "Model", "group"))})
        ).load_published()(["sad"])


def test_kin_of_roberta_count_from_behind_their_padding(tmp_path: Path) -> None:
    import transformers

    folder = save_tiny_text(tmp_path)
    shape = transformers.AutoConfig.from_pretrained(folder).to_dict()
    kept = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    config = transformers.RobertaConfig(
        **{name: shape[name] for name in kept}, max_position_embeddings=26, pad_token_id=1
    )
    transformers.RobertaModel(config).save_pretrained(folder)
    network = encoder(folder)
    assert network(["sad " * 22]).shape == (1, 16)
    with pytest.raises(ConfigError, match="at most 24"):
        network(["sad " * 23])


def test_half_precision_on_disk_is_whole_here(tmp_path: Path) -> None:
    import transformers

    folder = save_tiny_text(tmp_path)
    transformers.AutoModel.from_pretrained(folder).half().save_pretrained(folder)
    assert encoder(folder)(TEXTS).dtype == torch.float32


def test_what_generates_text_is_refused(tmp_path: Path) -> None:
    import transformers

    transformers.T5Config(vocab_size=40, d_model=16).save_pretrained(tmp_path)
    with pytest.raises(AffettoError, match="no encoder of text"):
        TextSettings.model_validate({"model": str(tmp_path)})
