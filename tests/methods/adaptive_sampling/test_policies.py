"""Best of N, on demand and pruned: which samples are drawn, what c they get, what is counted, and that looking changes nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.models import GenConfig, generate
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.adaptive_sampling.evaluator.schedule import Restart, Schedule, check_restart
from gnomon.methods.adaptive_sampling.policies.policies import AdaptiveSampler, BestOfN, PruningSampler
from gnomon.methods.adaptive_sampling.policies.replay import Pool, adaptive, best_of, prune, vote
from gnomon.methods.adaptive_sampling.policies.watch import Pruning

PROMPTS = ["1 + 2 =", "7 + 6 =", "3 + 3 ="]
GEN = GenConfig(max_new_tokens=4)
CONSTANT = Schedule("constant", 1.0)
KINDS = ("token", "text", "reserved")


def encoded(evaluator):
    return [evaluator.tokenizer(p)["input_ids"] for p in PROMPTS]


@pytest.mark.parametrize("kind", KINDS)
def test_c_of_every_sample_is_what_a_second_pass_over_its_own_tokens_reads(evaluator, kind):
    asked = evaluator(kind)
    for result, prompt in zip(
        BestOfN(asked, GEN, CONSTANT, n=8).sample(PROMPTS, Rng(1)), PROMPTS, strict=True
    ):
        values = [s.c for s in result.all_samples]
        lengths = [None if s.finish == "eos" else len(s.tokens) for s in result.all_samples]
        alone = asked.score([prompt] * 8, [s.tokens for s in result.all_samples], lengths)
        np.testing.assert_allclose(values, alone, atol=1e-5)
        assert result.chosen == int(np.argmax(values)) and result.c == max(values)
        assert result.text == result.all_samples[result.chosen].text


@pytest.mark.parametrize("kind", KINDS)
def test_looking_changes_no_sample(evaluator, kind):
    asked = evaluator(kind)
    gen = CONSTANT.draws(GEN, 6, asked.carrier.banned)
    plain = generate(asked.model, asked.tokenizer, encoded(asked), gen, generator=Rng(1))
    looked = BestOfN(asked, GEN, CONSTANT, n=6, cuts=(1, 2)).sample(PROMPTS, Rng(1))
    assert [[s.token_ids for s in row] for row in plain] == [
        [s.tokens for s in r.all_samples] for r in looked
    ]
    greedy = replace(GEN, temperature=0.0, banned=asked.carrier.banned)
    once = generate(asked.model, asked.tokenizer, encoded(asked), greedy, generator=Rng(1))
    first = BestOfN(asked, GEN, Schedule(), True, n=2, cuts=(1,)).sample(PROMPTS, Rng(1))
    assert [row[0].token_ids for row in once] == [r.all_samples[0].tokens for r in first]


@pytest.mark.parametrize("kind", KINDS)
def test_c_at_a_cut_is_that_of_the_beginning(evaluator, kind):
    asked = evaluator(kind)
    seen = 0
    for result, prompt in zip(
        BestOfN(asked, GEN, CONSTANT, n=8, cuts=(1, 2)).sample(PROMPTS, Rng(4)), PROMPTS, strict=True
    ):
        for s in result.all_samples:
            for cut, value in s.c_at.items():
                seen += 1
                assert value == pytest.approx(asked.score([prompt], [s.tokens], [cut])[0], abs=1e-5)
    assert seen > 10


def test_samples_of_earlier_rounds_are_kept_and_are_those_of_a_plain_run(evaluator):
    asked = evaluator()
    plain = BestOfN(asked, GEN, CONSTANT, n=16).sample(PROMPTS, Rng(2))
    bound = float(np.max([s.c for s in plain[0].all_samples[:2]])) + 1e-9
    for groups, gamma in (((1, 1, 2, 4), bound), ((1, 1, 2, 4, 8), 1.0)):
        results = AdaptiveSampler(
            asked, GEN, CONSTANT, gamma=min(gamma, 1.0), groups=groups, n_max=16
        ).sample(PROMPTS, Rng(2))
        for result, whole in zip(results, plain, strict=True):
            assert [s.tokens for s in result.all_samples] == [
                s.tokens for s in whole.all_samples[: result.k_used]
            ]
    four = AdaptiveSampler(asked, GEN, CONSTANT, gamma=1.0, groups=(1, 1, 2, 4), n_max=4).sample(
        PROMPTS, Rng(2)
    )
    assert [r.k_used for r in four] == [4, 4, 4] and four[0].trace["groups"] == [1, 2, 4]
    assert four[0].trace["why"] == "no samples left"


def test_it_stops_as_soon_as_c_reaches_gamma_and_all_of_a_group_count(evaluator):
    asked = evaluator()
    plain = BestOfN(asked, GEN, CONSTANT, n=8).sample(PROMPTS, Rng(2))
    for i, whole in enumerate(plain):
        values = np.maximum.accumulate([s.c for s in whole.all_samples])
        gamma = float(values[2]) - 1e-6
        result = AdaptiveSampler(asked, GEN, CONSTANT, gamma=gamma, n_max=8).sample(PROMPTS, Rng(2))[i]
        assert result.k_used == next(b for b in (1, 2, 4, 8) if values[b - 1] >= gamma)
        assert result.trace["why"] == "c reached gamma"


def test_the_number_of_samples_is_that_of_the_model_s_own_reads(evaluator):
    """Best of N is not best of two: rows of the first step that the model reads are N a prompt."""
    asked = evaluator()
    rows = []
    hook = asked.model.register_forward_hook(
        lambda m, args, kwargs, out: rows.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    results = BestOfN(asked, GEN, CONSTANT, n=5).sample(PROMPTS, Rng(1))
    hook.remove()
    assert max(r for r, t in rows if t == 1) == sum(r.k_used for r in results) == 15


def test_every_token_is_counted_and_copies_are_read_once(evaluator):
    asked = evaluator("text")
    (result,) = BestOfN(asked, GEN, Schedule("constant", 0.0), True, n=4).sample(PROMPTS[:1], Rng(0))
    assert [s.is_copy for s in result.all_samples] == [False, True, True, True]
    assert result.tokens_generated == 4 * len(result.tokens)
    kept, suffix = asked.carrier.layout(result.tokens, is_finished=result.all_samples[0].finish == "eos")
    assert kept == len(result.tokens) and result.tokens_selfeval == 1 + len(suffix)


def test_pruned_samples_leave_and_the_best_beginnings_stay(evaluator):
    asked = evaluator()
    whole = BestOfN(asked, GEN, CONSTANT, n=8, cuts=(1,)).sample(PROMPTS, Rng(7))
    pruned = PruningSampler(asked, GEN, CONSTANT, n=8, pruning=Pruning((1,), (3,))).sample(PROMPTS, Rng(7))
    for a, b in zip(whole, pruned, strict=True):
        values = [s.c_at.get(1, s.c) for s in a.all_samples]
        stay = sorted(range(8), key=lambda k: (-values[k], k))[:3]
        assert [k for k, s in enumerate(b.all_samples) if s.given_up is None] == sorted(stay)
        assert all(len(s.tokens) == 1 for s in b.all_samples if s.given_up is not None)
        for k in stay:
            assert b.all_samples[k].tokens == a.all_samples[k].tokens
        assert b.chosen == max(stay, key=lambda k: (a.all_samples[k].c, -k))
        assert b.tokens_generated < a.tokens_generated


def test_a_cut_beyond_every_answer_and_keeping_all_give_up_nothing(evaluator):
    asked = evaluator()
    plain = BestOfN(asked, GEN, CONSTANT, n=4).sample(PROMPTS, Rng(7))
    for pruning in (Pruning((40,), (1,)), Pruning((1,), (4,)), Pruning((1,), (9,))):
        same = PruningSampler(asked, GEN, CONSTANT, n=4, pruning=pruning).sample(PROMPTS, Rng(7))
        assert [r.text for r in same] == [r.text for r in plain]
        assert all(s.given_up is None for r in same for s in r.all_samples)


def test_pruning_by_a_threshold_keeps_at_least_one():
    values = {(0, 0): 0.2, (0, 1): 0.4, (0, 2): 0.4}
    assert Pruning((1,), (), above=0.9).kept(values, 1) == {(0, 1)}
    assert Pruning((1,), (), above=0.3).kept(values, 1) == {(0, 1), (0, 2)}


def test_batch_size_and_company_change_no_choice(evaluator):
    asked = evaluator()
    rngs = [Rng(9).child("task", p) for p in PROMPTS]
    together = AdaptiveSampler(asked, GEN, CONSTANT, gamma=0.6, n_max=8).sample(PROMPTS, rngs)
    for prompt, rng, result in zip(PROMPTS, rngs, together, strict=True):
        small = replace(GEN, batch_size=1)
        (alone,) = AdaptiveSampler(asked, small, CONSTANT, gamma=0.6, n_max=8).sample([prompt], [rng])
        assert (alone.text, alone.k_used, alone.chosen) == (result.text, result.k_used, result.chosen)
        assert alone.c == pytest.approx(result.c, abs=1e-5)


def test_batches_too_small_to_compare_a_prompt_s_samples_are_refused(evaluator):
    with pytest.raises(BadConfig, match=r"gen.batch_size must be at least the 8 samples"):
        PruningSampler(evaluator(), replace(GEN, batch_size=4), CONSTANT, n=8).sample(PROMPTS, Rng(0))


def test_a_prompt_without_room_is_an_error_and_nothing_is_cut(evaluator):
    with pytest.raises(
        BadInput, match=r"Text 0 takes \d+ tokens with the question behind it, and the model reads 48"
    ):
        BestOfN(evaluator(), GenConfig(max_new_tokens=60), CONSTANT, n=2).sample(PROMPTS, Rng(0))


def test_samples_drawn_otherwise_than_trained_for_are_refused(evaluator):
    asked = evaluator()
    with pytest.raises(
        BadConfig, match=r"fresh samples at temperature 1, and these are drawn beyond the first of halving"
    ):
        BestOfN(asked, GEN, Schedule(), n=2).sample(PROMPTS, Rng(0))
    with pytest.raises(BadConfig, match=r"top_p 0\.9"):
        BestOfN(asked, replace(GEN, top_p=0.9), CONSTANT, n=2).sample(PROMPTS, Rng(0))
    check_restart(Restart.of(Schedule(), GEN), Schedule(), GEN)
    with pytest.raises(BadConfig, match="next"):
        Restart.of(Schedule(), GEN, "soon")


def test_annealing_is_one_minus_halves_and_begins_at_the_true_argmax(evaluator):
    assert Schedule("halving", 1.0).temperatures(5) == (0.0, 0.5, 0.75, 0.875, 0.9375)
    asked = evaluator()
    (result,) = BestOfN(asked, GEN, Schedule(), True, n=3).sample(PROMPTS[:1], Rng(0))
    ids = torch.tensor([encoded(asked)[0]])
    logits = asked.model(ids).logits[0, -1].detach()
    logits[list(asked.carrier.banned)] = -torch.inf
    assert result.all_samples[0].tokens[0] == int(logits.argmax())
    assert [s.temperature for s in result.all_samples] == [0.0, 0.5, 0.75]


@pytest.mark.parametrize("kind", ["token", "reserved"])
def test_tokens_of_the_question_are_never_written(evaluator, kind):
    asked = evaluator(kind)
    with torch.no_grad():  # so likely that they would be
        asked.model.get_output_embeddings().weight[list(asked.carrier.banned)] *= 50
    result = BestOfN(asked, GEN, Schedule("constant", 3.0), True, n=32).sample(PROMPTS, Rng(0))
    written = {t for r in result for s in r.all_samples for t in s.tokens}
    assert not written & set(asked.carrier.banned)
    assert all(np.isfinite(s.logprob) for r in result for s in r.all_samples)


# Replays.


def pool_of(c, reward, tokens=None, forms=None, cuts=None):
    c, reward = np.array(c, float), np.array(reward, float)
    tokens = np.full(c.shape, 10.0) if tokens is None else np.array(tokens, float)
    return Pool(c, reward, tokens, c, forms or [[str(x) for x in row] for row in reward], cuts or {})


def test_replays_give_what_the_samplers_give(evaluator):
    asked = evaluator()
    results = BestOfN(asked, GEN, CONSTANT, n=8, cuts=(1,)).sample(PROMPTS, Rng(5))
    rewards = [[float(len(s.text)) + k / 100 for k, s in enumerate(r.all_samples)] for r in results]
    pool = Pool.of(results, rewards, str.strip)
    for gamma in (0.3, 0.5, 0.7, 1.0):
        live = AdaptiveSampler(asked, GEN, CONSTANT, gamma=gamma, n_max=8).sample(PROMPTS, Rng(5))
        replayed = adaptive(pool, gamma)
        assert replayed.samples.tolist() == [r.k_used for r in live]
        assert replayed.tokens.tolist() == [r.tokens_generated for r in live]
        assert replayed.reward.tolist() == [rewards[i][r.chosen] for i, r in enumerate(live)]
    pruning = Pruning((1,), (2,))
    live = PruningSampler(asked, GEN, CONSTANT, n=8, pruning=pruning).sample(PROMPTS, Rng(5))
    replayed = prune(pool, pruning)
    assert replayed.reward.tolist() == [rewards[i][r.chosen] for i, r in enumerate(live)]
    assert replayed.tokens.tolist() == [r.tokens_generated for r in live]


def test_replays_by_hand():
    pool = pool_of([[0.2, 0.9, 0.9, 0.1], [0.5, 0.4, 0.3, 0.8]], [[0, 1, 0, 0], [0, 0, 0, 1]])
    assert best_of(pool, 4).reward.tolist() == [1, 1] and best_of(pool, 2).reward.tolist() == [1, 0]
    assert best_of(pool, 3, "reward").reward.tolist() == [1, 0]
    spent = adaptive(pool, 0.8, (1, 1, 2))
    assert spent.samples.tolist() == [2, 4] and spent.tokens.tolist() == [20, 40]


def test_equal_answers_vote_together_and_a_sure_vote_ends_early():
    from gnomon.core.rollout import open_reward

    form = open_reward("number").form
    texts = ["0.5", "7", ".50", "1/2", "7", "nothing"]
    pool = pool_of([[0.0] * 6], [[1, 0, 1, 1, 0, 0]], forms=[[form(t) for t in texts]])
    assert vote(pool, sure=1).reward.tolist() == [1] and vote(pool, sure=1).samples.tolist() == [6]
    same = pool_of([[0.0] * 8], [[1] * 8], forms=[["x"] * 8])
    assert vote(same).samples.tolist() == [
        4
    ]  # Beta(5, 1) is above a half with 1 - 2^-5 = .969; Beta(4, 1) with .938


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=6, max_size=6), min_size=1, max_size=5), st.floats(0.05, 1)
)
def test_more_gamma_never_takes_fewer_samples(c, gamma):
    pool = pool_of(c, np.zeros((len(c), 6)))
    assert (adaptive(pool, gamma).samples >= adaptive(pool, gamma / 2).samples).all()
    assert adaptive(pool, 2.0).samples.tolist() == [6] * len(c)
