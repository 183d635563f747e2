"""Chains of real model classes against a plain loop, of functions, from the cache, and saved."""

import json

import numpy as np
import pytest
import torch
from scipy.sparse import load_npz

from fixtures_markov import SPACE, first_order
from gnomon.core.models import ModelHandle, load_model, load_tokenizer
from gnomon.errors import BadConfig, BadInput, ModelMismatch
from gnomon.methods.markov import MarkovLM, stationary
from gnomon.methods.markov.chain import prefix_ids, token_ids

VOCAB, PREFIX = (40, 41, 7), (0,)


def by_plain_loop(model, space, vocab, prefix):
    """Each state encoded by itself, without a cache."""
    rows = []
    for i in range(len(space)):
        ids = [*prefix, *(vocab[token] for token in space.state(i))]
        with torch.no_grad():
            rows.append(model(torch.tensor([ids]), use_cache=False).logits[0, -1, list(vocab)].numpy())
    return np.array(rows)


@pytest.fixture(scope="module")
def models(checkpoint):
    """Name -> a tiny model of the class, loaded as a user would."""
    found = {name: load_model(checkpoint(name), device="cpu") for name in ("llama", "gpt2", "gemma2")}
    found["gemma2, short window"] = load_model(checkpoint("gemma2", sliding_window=3), device="cpu")
    return found


@pytest.fixture(scope="module")
def mistral(tmp_path_factory):
    from transformers import MistralConfig, MistralForCausalLM

    folder = tmp_path_factory.mktemp("mistral")
    torch.manual_seed(0)
    MistralForCausalLM(
        MistralConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            sliding_window=4,
        )
    ).save_pretrained(folder)
    return load_model(folder, device="cpu")


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "gemma2, short window", "mistral"])
@pytest.mark.parametrize("batch_size", [None, 5])
def test_the_walk_over_the_tree_scores_as_a_plain_loop_does(models, mistral, family, batch_size):
    model = mistral if family == "mistral" else models[family]
    lm = MarkovLM(model, VOCAB, 4, PREFIX, batch_size)
    expected = by_plain_loop(model, lm.space, VOCAB, PREFIX)
    assert lm.logits.dtype == np.float32
    assert np.allclose(lm.logits, expected, atol=2e-6)
    assert np.std(expected) > 1e-3


def test_without_a_prefix_and_with_all_tokens(models):
    lm = MarkovLM(models["llama"], window=1)
    assert lm.space.tokens == models["llama"].config.vocab_size
    assert np.allclose(lm.logits[:5], by_plain_loop(models["llama"], lm.space, lm.vocab, ())[:5], atol=2e-6)


def test_a_handle_brings_names(handle_of):
    handle = handle_of("llama")
    vocab = token_ids(handle.processor, ["0", "1"])
    lm = MarkovLM(handle, vocab, 2)
    assert lm.names == ("0", "1")
    assert lm.label(2) == "00"
    assert lm.states[2] == (vocab[0], vocab[0])


def reads_the_last(batch):
    """Logits over 3 tokens, of which the chain uses the first two; the first-order rule."""
    return [[*np.log(first_order([row[-1]])), 50.0] for row in batch]


def test_a_function_is_enough():
    lm = MarkovLM(reads_the_last, (0, 1), 3)
    found = dict(zip(lm.states, lm.stationary(), strict=True))
    assert found[0, 0, 0] == pytest.approx(0.54, abs=1e-6)
    assert lm.Q(1.0).shape == (14, 14)
    assert lm.greedy_cycle().members == (SPACE.index([0, 0, 0]),)
    assert lm.greedy_cycle([1]).members == (SPACE.index([1, 1, 1]),)
    assert len(lm.greedy_cycles()) == 2


def test_a_function_s_vocabulary_is_as_wide_as_its_logits():
    assert MarkovLM(reads_the_last, window=2).space.tokens == 3


def test_the_analysis_is_one_row_per_temperature():
    found = MarkovLM(reads_the_last, (0, 1), 3).analyse((1.0, 2.0), texts=[[0, 0, 0, 0]])
    first = found[0].row
    assert first["temperature"] == 1.0
    assert (first["states"], first["transient"], first["closed classes"], first["period"]) == (14, 6, 1, 1)
    assert first["log10 eps"] == pytest.approx(np.log10(0.002), abs=1e-5)
    assert first["|lambda_2|"] == pytest.approx(0.7, abs=1e-5)
    assert first["relaxation time"] == pytest.approx(1 / 0.3, abs=1e-3)
    assert first["bound violations"] == 0
    assert (first["top state"], first["its probability"]) == ("000", pytest.approx(0.54, abs=1e-5))
    assert first["mass on training states"] == pytest.approx(0.54, abs=1e-5)
    # d(n) over the windows: after 2 tokens two thirds of the window are written anew, and d(3) = 2/3 * .7 > 1/4 ...
    assert first["t_mix(1/4)"] == int(np.flatnonzero(found[0].curve.tv <= 0.25)[0])
    assert found[1].row["log10 eps"] > first["log10 eps"]
    # At tau 2 the first token has odds 3 and 2: the first-order chain [[.75, .25], [1/3, 2/3]].
    assert found[1].row["|lambda_2|"] == pytest.approx(0.75 - 1 / 3, abs=1e-5)


def test_truncated_decoding_is_told_and_not_hidden():
    row = MarkovLM(reads_the_last, (0, 1), 3).analyse((1.0,), top_k=1)[0].row
    assert row["closed classes"] == 2
    assert row["log10 eps"] is None
    assert row["|lambda_2|"] is None


def test_saved_files_hold_the_chain(tmp_path):
    lm = MarkovLM(reads_the_last, (0, 1), 3, names="ab")
    paths = lm.save(tmp_path / "chain", (0.5, 1.0), steps=5)
    assert sorted(p.name for p in paths) == ["Q-0.5.npz", "Q.npz", "analysis.json", "states.json"]
    assert np.array_equal(load_npz(tmp_path / "chain" / "Q.npz").toarray(), lm.Q(1.0).toarray())
    told = json.loads((tmp_path / "chain" / "states.json").read_text())
    assert told["labels"][5:8] == ["bb", "aaa", "aab"]
    assert (told["vocab"], told["prefix"], told["window"]) == ([0, 1], [], 3)
    analysis = json.loads((tmp_path / "chain" / "analysis.json").read_text())
    assert [row["temperature"] for row in analysis["temperatures"]] == [0.5, 1.0]
    assert [cycle["states"] for cycle in analysis["greedy cycles"]] == [["aaa"], ["bbb"]]


def test_logits_are_kept_for_this_model_and_these_states_alone(models, tmp_path):
    model, path = models["llama"], tmp_path / "logits.safetensors"
    calls = []
    hook = model.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        first = MarkovLM(model, VOCAB, 3, PREFIX, cache=path).logits
        spent = len(calls)
        assert np.array_equal(MarkovLM(model, VOCAB, 3, PREFIX, cache=path).logits, first)
        assert len(calls) == spent > 0
        assert not np.array_equal(MarkovLM(model, VOCAB, 3, (), cache=path).logits, first)
        assert len(calls) > spent
    finally:
        hook.remove()
    path.write_bytes(b"no longer whole")
    assert np.array_equal(MarkovLM(model, VOCAB, 3, PREFIX, cache=path).logits, first)
    with pytest.raises(BadConfig, match="cannot be kept on disk"):
        MarkovLM(reads_the_last, (0, 1), 3, cache=path)


def test_what_cannot_work_is_told(models):
    model = models["llama"]
    with pytest.raises(BadConfig, match="transitions, more than the limit"):
        MarkovLM(model, window=4)
    with pytest.raises(ModelMismatch, match="need 130 positions; the model has 128"):
        MarkovLM(model, (1, 2), 10, [0] * 120).logits  # noqa: B018
    with pytest.raises(ModelMismatch, match="there is no token 5000"):
        MarkovLM(model, (1, 5000), 2).logits  # noqa: B018
    with pytest.raises(BadInput, match="names a token twice"):
        MarkovLM(model, (1, 1), 2)
    with pytest.raises(BadInput, match="need as many names"):
        MarkovLM(model, (1, 2), 2, names="abc")
    with pytest.raises(BadInput, match="got int"):
        MarkovLM(3, (1, 2), 2)
    with pytest.raises(BadInput, match=r"must give \[2, 3 or more\]"):
        MarkovLM(lambda batch: [[0.0, 0.0]] * len(batch), (1, 2), 2).logits  # noqa: B018
    with pytest.raises(BadInput, match="Token 9 is none of the chain's"):
        MarkovLM(reads_the_last, (0, 1), 2).greedy_cycle([9])


def test_tokens_by_name(checkpoint):
    tokenizer = load_tokenizer(checkpoint("llama"))
    assert token_ids(tokenizer, ["0", "#15"]) == [tokenizer.convert_tokens_to_ids("0"), 15]
    with pytest.raises(BadInput, match=r'"0123456789" is \d+ tokens'):
        token_ids(tokenizer, ["0123456789"])
    with pytest.raises(BadInput, match="are the same"):
        token_ids(tokenizer, ["0", "0"])


def test_the_begin_of_text_token_is_decided(checkpoint):
    tokenizer = load_tokenizer(checkpoint("llama"))
    bos = tokenizer.bos_token_id
    assert prefix_ids(tokenizer) == []  # this tokenizer adds none by itself
    assert prefix_ids(tokenizer, bos="yes") == [bos]
    assert prefix_ids(tokenizer, "a", bos="yes") == [bos, *tokenizer("a")["input_ids"]]
    tokenizer.bos_token = None
    with pytest.raises(ModelMismatch, match="no begin-of-text token"):
        prefix_ids(tokenizer, bos="yes")


def test_a_released_model_begins_with_its_begin_of_text_token(shared_data):
    handle = ModelHandle.load(shared_data / "models" / "stories260K", device="cpu")
    assert prefix_ids(handle.processor) == [handle.processor.bos_token_id]
    lm = MarkovLM(handle, token_ids(handle.processor, ["a", "b"]), 6, prefix_ids(handle.processor))
    assert np.allclose(lm.logits, by_plain_loop(handle.model, lm.space, lm.vocab, lm.prefix), atol=1e-4)
    assert stationary(lm.chain()).residual < 1e-12
