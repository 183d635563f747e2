"""Short texts of two topics and tiny checkpoints of real classes, for the tests of students."""

from gnomon.core.rng import Rng

COMMON = ["the", "of", "and", "a", "in", "on"]
WORDS = {
    1: ["election", "vote", "senate", "party", "minister", "law"],
    0: ["goal", "match", "striker", "league", "coach", "pitch"],
}


def corpus(n, seed=0, longest=8):
    """Texts of two topics with common words between, and their labels."""
    draw = Rng(seed).python()
    labels = [int(draw.random() < 0.3) for _ in range(n)]
    return [" ".join(draw.choices(WORDS[y] + COMMON, k=draw.randint(3, longest))) for y in labels], labels


def small_tokenizer():
    from gnomon.methods.sieve.students import word_tokenizer

    return word_tokenizer(corpus(400)[0], 200)


def save_t5(folder):
    """A T5 with 40,000 weights and its tokenizer."""
    from gnomon.methods.sieve.students import new_t5

    tokenizer = small_tokenizer()
    new_t5(tokenizer, d_model=32, layers=2, heads=2, generator=Rng(0)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_bert(folder, *, headed=True, num_labels=2):
    """A BERT with 10,000 weights, 32 positions and its tokenizer, with or without a head for sequences."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    tokenizer = small_tokenizer()
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(
        vocab_size=len(tokenizer), max_position_embeddings=32, pad_token_id=0, num_labels=num_labels, **sizes
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = (BertForSequenceClassification if headed else BertModel)(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_t5_classifier(folder):
    """A `T5ForSequenceClassification`, which pools at the end-of-text token."""
    import torch
    from transformers import T5Config, T5ForSequenceClassification

    tokenizer = small_tokenizer()
    config = T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, num_labels=2,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        T5ForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
