"""A tiny text encoder of transformers with random weights and a tokenizer of words, made on the spot."""

from pathlib import Path

import torch

WORDS = """[PAD] [UNK] [CLS] [SEP] [MASK] a the speaker voice sounds emotion is very slightly , .
male female man woman angry disgusted afraid happy neutral sad bored calm surprised tired furious shout"""


def save_tiny_text(folder: Path, positions: int = 24) -> Path:
    """Writes a BERT of two layers, its words and its tokenizer."""
    import transformers

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    words = WORDS.split()
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=positions,
    )
    network = transformers.BertModel(config)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    network.save_pretrained(folder)
    return folder
