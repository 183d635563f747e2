"""A tiny causal model, a tiny encoder and a corpus of topics, saved where a user's would lie."""

import json

import numpy as np

from gnomon.core.models import tiny_causal, train_bpe

TOPICS = {
    "bread": "flour water yeast dough oven crust loaf baker salt knead rise bake",
    "ships": "harbour sail mast anchor crew deck rope captain storm wave port hull",
    "stars": "comet orbit planet galaxy light dust moon telescope night sky ring sun",
    "trees": "oak root leaf bark branch forest seed soil shade acorn moss fern",
}


def made_documents(n=12, sentences=14, seed=0):
    """Documents of one topic each, no two sentences alike."""
    draw, rows = np.random.default_rng(seed), []
    for i in range(n):
        name = list(TOPICS)[i % len(TOPICS)]
        words = TOPICS[name].split()
        lines = [f"The {' '.join(draw.choice(words, 6))} of number {i} {j}." for j in range(sentences)]
        rows.append({"id": f"{name}-{i}", "text": " ".join(lines)})
    return rows


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def save_models(folder, positions=160):
    """Folders of a tiny Llama and of a tiny BERT with the same tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = train_bpe([row["text"] for row in made_documents()], 420)
    tiny_causal("llama", tokenizer, folder / "lm", max_position_embeddings=positions)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        # Without dropout, so that trainings in pieces and in processes can be compared with one in a whole.
        sizes |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=96, **sizes)).save_pretrained(
            folder / "encoder"
        )
    tokenizer.save_pretrained(folder / "encoder")
    return folder / "lm", folder / "encoder"
