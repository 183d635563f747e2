"""Scores of pairs are the model's own, each as if alone; a gain is the difference of two log-likelihoods."""

import math
import warnings

import pytest
import torch

from gnomon.core.models import ModelHandle
from gnomon.core.retrieval import CrossEncoder, Gain, Passage, Search, Terms
from gnomon.errors import BadConfig, BadInput, ModelMismatch

WORDS = [
    "the",
    "a",
    "council",
    "met",
    "twelve",
    "times",
    "rain",
    "falls",
    "on",
    "bread",
    "and",
    "butter",
    "market",
    "closes",
    "when",
    "who",
    "it",
]


def passages(*texts):
    return [Passage(f"p{i}", "d", 0, len(text), text) for i, text in enumerate(texts)]


TEXTS = passages(
    "rain falls", "the council met twelve times when rain falls on the market", "bread", "rain falls"
)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """`classifier(2)`: the folder of a tiny BERT with so many labels."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    def make(labels, kind=BertForSequenceClassification):
        folder = tmp_path_factory.mktemp(f"labels{labels}")
        (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
        tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=20)
        torch.manual_seed(labels)
        config = BertConfig(
            vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=20, initializer_range=0.5, num_labels=labels,
        )  # fmt: skip
        kind(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.mark.parametrize("labels", [1, 2])
def test_a_pair_has_the_score_that_transformers_alone_gives_it(classifier, labels):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = classifier(labels)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    wanted = []
    for passage in TEXTS:
        with torch.no_grad():
            logits = model(**tokenizer("who met", passage.text, return_tensors="pt")).logits[0].tolist()
        wanted.append(logits[0] if labels == 1 else logits[1] - logits[0])
    for budget in (1, 30, 4096):
        encoder = CrossEncoder(folder, batch_tokens=budget)
        assert encoder.score("who met", TEXTS) == pytest.approx(wanted, abs=1e-5)
    assert len(set(wanted)) == 3 and encoder.n_too_long == 0
    assert encoder.score("who met", []) == []


def test_sentence_transformers_puts_pairs_into_the_same_order(classifier):
    folder = classifier(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import CrossEncoder as Theirs

        theirs = Theirs(str(folder), device="cpu", local_files_only=True)
        values = theirs.predict([("who met", p.text) for p in TEXTS], activation_fn=torch.nn.Identity())
    assert CrossEncoder(folder).score("who met", TEXTS) == pytest.approx(values.tolist(), abs=1e-5)


def test_the_end_of_a_long_passage_is_cut_and_counted(classifier):
    encoder = CrossEncoder(classifier(1))
    room = 20 - 3 - 2  # [CLS], two [SEP], and a question of two words
    words = (WORDS * 2)[: room + 7]
    long, fits = passages(" ".join(words), " ".join(words[:room]))
    assert encoder.score("who met", [long, fits]) == pytest.approx(
        encoder.score("who met", [fits, fits]), abs=1e-5
    )
    assert (encoder.n_pairs, encoder.n_too_long) == (4, 1)
    with pytest.raises(BadInput, match="no passage fits"):
        encoder.score(" ".join(["rain"] * 18), TEXTS)


def test_other_models_are_refused(classifier, checkpoint):
    from transformers import BertModel

    with pytest.raises(ModelMismatch, match="3 labels"):
        CrossEncoder(classifier(3))
    with pytest.raises(ModelMismatch, match="BertModel"):
        CrossEncoder(classifier(1, BertModel))
    with pytest.raises(ModelMismatch, match="LlamaForCausalLM"):
        CrossEncoder(checkpoint("llama"))


def logp(handle, head, ids, first=0):
    """Summed log-probability of `ids` behind `head`, one token after another, without padding."""
    total = 0.0
    for i in range(first, len(ids)):
        with torch.no_grad():
            logits = handle.model(torch.tensor([[*head, *ids[:i]]])).logits[0, -1]
        total += float(logits.log_softmax(-1)[ids[i]])
    return total


@pytest.mark.parametrize("start", ["bos", "none"])
def test_a_gain_is_the_difference_of_two_log_likelihoods_per_token(handle_of, start):
    handle = handle_of("llama")
    tokenizer = handle.tokenizer
    ids = {
        t: tokenizer(t, add_special_tokens=False)["input_ids"]
        for t in ("who met?", "\n", *(p.text for p in TEXTS))
    }
    head = [tokenizer.bos_token_id] if start == "bos" else []
    first = 0 if start == "bos" else 1
    target = ids["who met?"]
    without = logp(handle, head, target, first)
    wanted = [
        (logp(handle, [*head, *ids[p.text], *ids["\n"]], target, first) - without) / (len(target) - first)
        for p in TEXTS
    ]
    for budget in (1, 64, 4096):
        gain = Gain(handle, start=start, batch_tokens=budget)
        assert gain.score("who met?", TEXTS) == pytest.approx(wanted, abs=1e-5)
    assert len({round(value, 6) for value in wanted}) == 3
    assert gain.gains(["rain falls", "bread"], ["who met?", "who met?"]) == pytest.approx(
        [wanted[0], wanted[2]], abs=1e-5
    )


def test_a_model_that_repeats_what_it_read_gains_the_log_of_its_words(checkpoint):
    """With weights set by hand: token t is followed by t itself with probability p, whatever came before it."""
    handle = ModelHandle.load(checkpoint("llama"), device="cpu")
    model, n = handle.model, handle.model.config.vocab_size

    class Repeats(torch.nn.Module):
        """Logits 0 but for the words that were read already, which have log 3."""

        def forward(self, input_ids, **_):
            seen = torch.nn.functional.one_hot(input_ids, n).cumsum(1).clamp(max=1).float()
            return seen * math.log(3)

    repeats = Repeats()
    own = model.forward

    def forward(input_ids=None, **more):
        output = own(input_ids=input_ids, **more)
        output.logits = repeats(input_ids)
        return output

    model.forward = forward
    gain = Gain(handle, separator="")
    (a,), (b,) = (handle.tokenizer(t, add_special_tokens=False)["input_ids"] for t in "xy")
    assert a != b
    # Alone: seen is the start token, 1 / (n - 1 + 3). Behind its own word: 3 / (n - 2 + 6). Behind another: 1 / (n - 2 + 6).
    both, one = math.log(3 / (n + 4)) - math.log(1 / (n + 2)), math.log(1 / (n + 4)) - math.log(1 / (n + 2))
    assert gain.score("x", passages("x", "y")) == pytest.approx([both, one], abs=1e-5)


def test_what_does_not_fit_is_an_error_that_names_the_limit_and_never_cut(checkpoint):
    handle = ModelHandle.load(checkpoint("gpt2"), device="cpu")
    gain = Gain(handle)
    length = gain.max_tokens
    assert length is not None
    word = "rain falls on the market "
    n = len(handle.tokenizer(word * length, add_special_tokens=False)["input_ids"])
    with pytest.raises(BadInput, match=rf"Context and text 1 have \d+ tokens.*the model reads {length}\."):
        gain.score("who?", passages("rain", word * length))
    assert n > length
    target = handle.tokenizer("who?", add_special_tokens=False)["input_ids"]
    room = length - 1 - len(gain.separator) - len(target)
    ids = handle.tokenizer(word * length, add_special_tokens=False)["input_ids"][:room]
    fits = handle.tokenizer.decode(ids)
    again = handle.tokenizer(fits, add_special_tokens=False)["input_ids"]
    assert len(again) == room  # it fills the model to its last position
    head = [handle.tokenizer.bos_token_id]
    wanted = logp(handle, [*head, *ids, *gain.separator], target) - logp(handle, head, target)
    assert gain.score("who?", passages(fits)) == pytest.approx([wanted / len(target)], abs=1e-4)
    with pytest.raises(BadInput, match=f"reads {length}"):
        gain.score("who?", passages(fits + word))
    with pytest.raises(BadInput, match="none to predict"):
        gain.score("", TEXTS)
    with pytest.raises(BadConfig, match="start must be"):
        Gain(handle, start="cls")


def test_equal_scores_stay_in_the_order_of_their_ids(classifier, tmp_path):
    by_id = {p.id: p for p in TEXTS}
    terms = Terms.build(tmp_path / "terms", {p.id: p.text for p in TEXTS})
    search = Search(by_id, terms=terms, reranker=CrossEncoder(classifier(1)))
    hits = search.search("rain falls market")
    (one, other) = (next(h for h in hits if h.id == name) for name in ("p0", "p3"))
    assert one.score == other.score and one.rank + 1 == other.rank
