"""PPO: first ratios, references of adapters, losses by hand, cuts, rewards of every kind, and exact resume."""

import copy
import hashlib
import math

import pytest
import torch
from torch import nn

from fixtures_training import SmallRun
from gnomon.core.models import (
    Completion,
    GenConfig,
    add_lora,
    load_model,
    new_llama,
    new_scorer,
    save_lora,
    train_bpe,
)
from gnomon.core.models.batch import pad
from gnomon.core.rng import Rng
from gnomon.core.rollout import Task, open_reward
from gnomon.core.sandbox import SandboxPool
from gnomon.core.train import TrainConfig
from gnomon.errors import BadConfig, BadInput, UserError
from gnomon.methods.ma_rlhf import Macro, Ppo, Setup, actor_critic, macro_ppo
from gnomon.methods.ma_rlhf.training.loss import PpoLoss, clipped_losses, value_losses
from gnomon.methods.ma_rlhf.training.policy import action_logprobs, is_adapted, reference_of
from gnomon.methods.ma_rlhf.training.ppo import Rollouts, as_grader
from gnomon.methods.ma_rlhf.training.rollouts import Writer, statistics

TASKS = [Task(str(i), f"say {i}", meta={"gold": f"gold {i}"}) for i in range(6)]
MACRO = Macro(n=3)
GEN = GenConfig(max_new_tokens=10, batch_size=8)
TRAIN = TrainConfig(
    lr=1e-3, batch_size=6, max_length=32, epochs=4, max_steps=4, weight_decay=0.0, checkpoint_every=2
)


@pytest.fixture(scope="module")
def words():
    return train_bpe(["say hello"] * 3, 262)


@pytest.fixture
def model(words):
    return new_llama(words, 16, 1, 2, 64, Rng(0), intermediate=32)


def count_letters(prompts, completions):
    return [sum(letter.isalpha() for letter in text) / 4 for text in completions]


def train(model, words, folder, *, tasks=TASKS, reward=count_letters, macro=MACRO, cfg=TRAIN, **ppo):
    options = {"gen": GEN, **ppo}
    return macro_ppo(
        model, words, tasks, reward, macro=macro, ppo=Ppo(**options), train=cfg, run=SmallRun(folder)
    )


def rolled(model, words, reference=None, *, macro=MACRO, reward=count_letters, tasks=TASKS, **ppo):
    """A rollout of a policy with a fresh critic."""
    both = actor_critic(model, rng=Rng(1))
    with reference_of(both.policy, is_new=False) as frozen:
        writer = Writer(both, frozen, words, as_grader(reward, words), macro, Ppo(**{"gen": GEN, **ppo}))
        return both, writer, writer.roll_out(tasks, Rng(2))


def hash_of(module):
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in module.parameters())).hexdigest()


def test_the_first_ratio_is_exactly_one_and_the_first_log_ratio_zero(model, words):
    """Also where the model has dropout."""
    model.config.attention_dropout = 0.5
    both, writer, rows = rolled(model, words)
    batches = Rollouts(writer, TASKS, TRAIN, Rng(3), None)
    micro = batches.at(0).micro[0]
    both.train()
    logprobs, _ = both(micro["ids"], micro["mask"], int(micro["keep"]), 1.0)
    assert torch.equal(logprobs[micro["actions"]], micro["logprobs"][micro["actions"]])
    assert all(torch.equal(row.logprobs, row.ref_logprobs) for row in rows)
    numbers = statistics(rows)
    assert numbers["log_ratio"] == numbers["kl"] == 0 and numbers["rollout_gap"] < 1e-5


def test_a_policy_with_an_adapter_is_compared_with_that_adapter(model, words, tmp_path):
    """trl#495, trl#4723: first log-ratios are 0, and the base is as it was after training."""
    tuned = add_lora(model, 2)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=Rng(4).torch())
    model.save_pretrained(tmp_path / "base")
    words.save_pretrained(tmp_path / "base")
    new_llama(words, 16, 1, 2, 64, Rng(0), intermediate=32).save_pretrained(tmp_path / "base")
    tuned.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    save_lora(tuned, words, tmp_path / "sft")
    policy = load_model(tmp_path / "sft", device="cpu")
    before = hash_of(load_model(tmp_path / "base", device="cpu"))
    adapter = {n: p.clone() for n, p in policy.named_parameters() if "lora" in n}
    trained = train(policy, words, tmp_path / "run", beta=0.1)
    assert trained.rows[0]["log_ratio"] == trained.rows[0]["kl"] == 0
    assert abs(trained.rows[-1]["log_ratio"]) > 0
    assert list(policy.peft_config) == ["default"]  # the copy is gone
    assert any(not torch.equal(p, adapter[n]) for n, p in policy.named_parameters() if n in adapter)
    assert hash_of(policy.unload()) == before
    # With the adapter off, the base alone, the log-ratios would not be 0.
    again = load_model(tmp_path / "sft", device="cpu")
    batch = pad([[*words("say 1 he")["input_ids"]]], 2, "right")
    with again.disable_adapter(), torch.no_grad():
        off = action_logprobs(again, batch, 9, 1.0)
    with torch.no_grad():
        assert float((off - action_logprobs(again, batch, 9, 1.0)).abs().max()) > 1e-3


def test_a_new_adapter_is_compared_with_the_base(model, words, tmp_path):
    before = hash_of(copy.deepcopy(model))
    cfg = TrainConfig(**{**vars(TRAIN), "lora_rank": 2})
    trained = train(model, words, tmp_path, cfg=cfg)
    assert trained.rows[0]["log_ratio"] == 0 and trained.rows[-1]["log_ratio"] != 0
    assert is_adapted(trained.policy) and is_adapted(trained.critic)
    assert hash_of(trained.policy.unload()) == before
    with pytest.raises(BadConfig, match=r"train\.lora_rank"):
        actor_critic(add_lora(model, 2), rng=Rng(0), lora_rank=2)


def test_losses_by_hand():
    d, advantage = torch.tensor([math.log(1.5), math.log(1.5), math.log(0.5)]), torch.tensor([1.0, -1.0, 1.0])
    losses, is_clipped = clipped_losses(d, advantage, 0.2)
    assert losses.tolist() == pytest.approx([-1.2, 1.5, -0.5]) and is_clipped.tolist() == [True, False, False]
    assert value_losses(
        torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([1.0]), 0.2
    ).item() == pytest.approx(0.32)
    assert value_losses(torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([1.0]), None).item() == 0


class Given(nn.Module):
    """A policy and critic that say what they are made with."""

    def __init__(self, logprobs, values):
        super().__init__()
        self.logprobs, self.values = nn.Parameter(logprobs), values

    def forward(self, ids, mask, keep, temperature, *, critic_only=False):
        return self.logprobs, self.values


def micro(segments, advantages, old):
    ids = torch.tensor(segments)
    return {
        "ids": ids, "mask": ids, "keep": torch.tensor(9), "actions": ids >= 0, "segments": ids, "logprobs": torch.tensor(old),
        "advantages": torch.tensor(advantages), "values": torch.zeros(ids.shape), "returns": torch.zeros(ids.shape),
        "action_weight": torch.tensor(4 / 2),
    }  # fmt: skip


def test_ratios_of_macro_actions_are_products_clipped_once():
    """Two macro actions of 3 and 1 tokens; the first ratio is 1.1^3, above 1.2."""
    d = [[math.log(1.1)] * 3 + [math.log(0.9)]]
    batch = micro([[0, 0, 0, 1]], [[2.0, 2, 2, -1]], [[0.0] * 4])
    model = Given(torch.tensor(d), torch.zeros(1, 5))
    by_action = PpoLoss(Macro(ratio="macro"), Ppo())
    # Mean over two actions, times the four targets that `fit` divides by.
    assert float(by_action(model, batch).detach()) == pytest.approx(4 * (-2 * 1.2 + 0.9) / 2, rel=1e-5)
    by_length = PpoLoss(Macro(ratio="macro", weight="tokens"), Ppo())
    assert float(by_length(model, batch).detach()) == pytest.approx(3 * -2.4 + 0.9, rel=1e-5)
    assert by_length.numbers(1)["clip_share"] == pytest.approx(3 / 4)
    by_token = PpoLoss(Macro(), Ppo())
    assert float(by_token(model, batch).detach()) == pytest.approx(3 * -2.2 + 0.9, rel=1e-5)
    assert by_token.numbers(1)["clip_share"] == 0


def test_at_the_first_step_both_levels_have_one_direction():
    batch = micro([[0, 0, 0, 1]], [[2.0, 2, 2, -1]], [[0.0] * 4])
    gradients = []
    for macro in (Macro(), Macro(ratio="macro", weight="tokens")):
        model = Given(torch.zeros(1, 4), torch.zeros(1, 5))
        PpoLoss(macro, Ppo())(model, batch).backward()
        gradients.append(model.logprobs.grad)
    token, action = gradients
    assert token.tolist() == [[-2, -2, -2, 1]]
    assert action.tolist() == [[-6, -6, -6, 1]]  # each token of an action has the action's gradient


@pytest.mark.parametrize(("on_cut", "extra"), [("zero", 0.0), ("penalty:-1.5", -1.5), ("bootstrap", None)])
def test_the_three_ways_to_treat_a_cut(model, words, on_cut, extra):
    def write(tasks, prompts, streams):
        ids = tuple(words("hello")["input_ids"])
        return [
            [Completion("p", "hello", ids, (0.0,) * len(ids), ("length", "eos")[i % 2])]
            for i in range(len(tasks))
        ]

    both = actor_critic(model, rng=Rng(1))
    with torch.no_grad():  # a critic that says something
        both.critic.score.weight.normal_(generator=Rng(5).torch())
    with reference_of(both.policy, is_new=False) as frozen:
        writer = Writer(
            both, frozen, words, as_grader(lambda prompts, completions: [1.0] * len(completions), words),
            Macro(n=1, lam=1.0), Ppo(gen=GEN, beta=0.0, on_cut=on_cut), write=write,
        )  # fmt: skip
        cut, ended = writer.roll_out(TASKS[:2], Rng(2))
    assert cut.was_cut and not ended.was_cut
    # With lambda 1 a return is the sum of the rewards behind it, and what follows the end.
    assert float(ended.returns[0]) == pytest.approx(1.0, abs=1e-5)
    assert float(cut.returns[0]) == pytest.approx(1.0 + (cut.beyond if extra is None else extra), abs=1e-5)
    assert cut.beyond != 0
    assert statistics([cut, ended])["cut_share"] == 0.5


@pytest.mark.parametrize("on_cut", ["maybe", "penalty", "penalty:x", "penalty:nan", "zero:1"])
def test_other_ways_are_refused(on_cut):
    with pytest.raises(BadConfig, match=r"ppo\.on_cut"):
        Ppo(on_cut=on_cut)


def test_rewards_are_clipped_and_may_be_left(model, words):
    def large(prompts, completions):
        return [9.0] * len(completions)

    for clip, total in ((2.5, 2.5), (None, 9.0)):
        _, _, rows = rolled(model, words, reward=large, reward_clip=clip, macro=Macro(n=1, lam=1.0), beta=0.0)
        assert float(rows[0].returns[0]) == pytest.approx(total)
        assert rows[0].reward == 9.0  # what people read is not clipped


def test_segment_rewards_lie_at_the_ends_of_their_segments(model, words):
    rule = lambda tokens, offsets, text: ([2], [5.0, 7.0]) if len(tokens) > 2 else []  # noqa: E731
    _, _, rows = rolled(model, words, reward=lambda prompts, completions: [0.0] * len(completions),
                        macro=Macro(rule=rule, gamma=1.0, lam=1.0), beta=0.0)  # fmt: skip
    row = max(rows, key=lambda row: len(row.ids))
    assert row.returns[0] == pytest.approx(12.0) and row.returns[2] == pytest.approx(7.0)


def test_a_function_gets_the_gold_answer_in_the_order_of_the_samples(model, words):
    seen = []

    def reward(prompts, completions, gold):
        seen.append((prompts, gold))
        return [float(i) for i in range(len(prompts))]

    _, _, rows = rolled(model, words, reward=reward, gen=GenConfig(max_new_tokens=4, n=2))
    ((prompts, gold),) = seen
    assert [row.task.text for row in rows] == prompts and gold == [row.task.meta["gold"] for row in rows]
    assert [row.reward for row in rows] == list(range(12))
    assert gold[:4] == ["gold 0", "gold 0", "gold 1", "gold 1"]


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda prompts, completions: [1.0], "gave 1 numbers for 6"),
        (lambda prompts, completions: [math.nan] * 6, 'sample 0 \\(task "0"\\)'),
    ],
)
def test_bad_rewards_name_the_sample(model, words, reward, message, tmp_path):
    with pytest.raises(BadInput, match=message):
        train(model, words, tmp_path, reward=reward)


def test_prompts_that_do_not_fit_name_the_task(model, words, tmp_path):
    with pytest.raises(BadInput, match=r'task 1 \("long"\) has \d+ tokens, and 22'):
        train(model, words, tmp_path, tasks=[*TASKS[:1], Task("long", "say " * 20)])
    with pytest.raises(BadInput, match="no task"):
        train(model, words, tmp_path, tasks=[])


def test_answers_that_are_too_short_are_counted_and_a_collapse_is_said(model, words, tmp_path):
    def write(short):
        def of(policy):
            def now(tasks, prompts, streams):
                return [
                    [
                        Completion(
                            "",
                            "",
                            (words.eos_token_id,) if i < short else (70, words.eos_token_id),
                            (),
                            "eos",
                        )
                    ]
                    for i in range(len(tasks))
                ]

            return now

        return of

    kept = train(Setup(model, write=write(6)), words, tmp_path / "kept")
    assert (
        kept.rows[0]["dropped"] == 0 and kept.rows[0]["answer_tokens"] == 1
    )  # a collapsed policy stays visible
    some = train(Setup(model, write=write(4)), words, tmp_path / "some", drop_shorter_than=2)
    assert some.rows[0]["dropped"] == 4 and some.rows[0]["distinct"] == pytest.approx(2 / 6)
    with pytest.raises(UserError, match="Rollout 0: all answers"):
        train(Setup(model, write=write(6)), words, tmp_path / "none", drop_shorter_than=2)


def test_padding_that_is_the_end_token_moves_nothing(model, words):
    """The end of an answer is its first end token, whatever pads: log-probabilities and values are those of the row alone."""
    words = copy.deepcopy(words)
    words.pad_token = words.eos_token
    both, _, rows = rolled(model, words)
    ended = [row for row in rows if row.ids[-1] == words.eos_token_id] or rows
    for row in ended:
        batch = pad([[*row.prompt, *row.ids]], 0, "right")
        with torch.no_grad():
            alone, _ = both(batch.input_ids, batch.mask.long(), 99, 1.0)
        torch.testing.assert_close(alone[0, len(row.prompt) - 1 :], row.logprobs, atol=1e-5, rtol=0)
        assert len(row.logprobs) == len(row.ids)


def test_a_batch_is_its_rows_and_micro_batches_change_nothing(model, words, tmp_path):
    whole = train(copy.deepcopy(model), words, tmp_path / "whole", beta=0.1)
    cfg = TrainConfig(**{**vars(TRAIN), "micro_batch_size": 1})
    alone = train(copy.deepcopy(model), words, tmp_path / "alone", cfg=cfg, beta=0.1)
    for one, other in zip(whole.rows, alone.rows, strict=True):
        for name in one:
            assert one[name] == pytest.approx(other[name], abs=2e-4), name


def test_whitening_is_over_all_tokens_of_the_rollout(model, words):
    _, _, rows = rolled(model, words, whiten=True)
    values = torch.cat([row.advantages for row in rows])
    assert float(values.mean()) == pytest.approx(0, abs=1e-5) and float(
        values.std(correction=0)
    ) == pytest.approx(1, abs=1e-4)


def test_log_ratio_may_be_negative_and_kl_never(model, words):
    """LlamaFactory#664, trl#1098: samples of top-k are not drawn from the policy itself."""
    other = new_llama(words, 16, 1, 2, 64, Rng(9), intermediate=32)
    both = actor_critic(model, rng=Rng(1))
    with reference_of(other, is_new=False) as frozen:
        writer = Writer(both, frozen, words, as_grader(count_letters, words), Macro(), Ppo(gen=GEN))
        numbers = [statistics(writer.roll_out(TASKS, Rng(i))) for i in range(8)]
    assert min(n["log_ratio"] for n in numbers) < max(n["log_ratio"] for n in numbers)
    assert all(n["kl"] >= 0 for n in numbers) and any(n["kl"] > max(0.0, n["log_ratio"]) for n in numbers)


def test_the_temperature_of_log_probabilities_is_the_one_that_is_set(model, words):
    batch = pad([words("say hello")["input_ids"]], 2, "right")
    with torch.no_grad():
        logits = model(**batch.inputs()).logits[0, :-1]
        expected = (logits / 0.5).log_softmax(-1).gather(-1, batch.input_ids[0, 1:, None]).squeeze(-1)
        torch.testing.assert_close(action_logprobs(model, batch, 99, 0.5)[0], expected)
        kept = action_logprobs(model, batch, 4, 0.5)[0]
    assert torch.equal(kept[-3:], action_logprobs(model, batch, 99, 0.5)[0, -3:].detach()) or torch.allclose(
        kept[-3:], expected[-3:]
    )
    assert not kept[:-3].any()


def test_a_scorer_is_a_reward_and_the_critic_can_begin_as_it(model, words, tmp_path):
    scorer = new_scorer(model, Rng(3))
    with torch.no_grad():
        scorer.score.weight.fill_(0.1)
    trained = train(Setup(model, copy.deepcopy(scorer)), words, tmp_path, reward=scorer)
    assert trained.rows[0]["reward"] != 0
    assert not torch.equal(
        trained.critic.score.weight, scorer.score.weight
    )  # trained on, and the reward is not


def test_tests_are_a_reward(model, words, tmp_path):
    from gnomon.core.rollout import Problem

    problem = Problem("p", "", "", "", "", "assert f(1) == 2", "")
    tasks = [Task("p", "def f(x):", tests=problem)]

    def write(policy):
        texts = [
            "def f(x):\n    return x + 1",
            "def f(x: return",
            "def f(x):\n    return x",
            "raise ValueError",
        ]
        return lambda tasks, prompts, streams: [
            [Completion("", text, tuple(words(text)["input_ids"])[:12], (), "eos") for text in texts]
            for _ in tasks
        ]

    cfg = TrainConfig(**{**vars(TRAIN), "batch_size": 4, "max_steps": 1})
    with SandboxPool(1) as pool:
        trained = train(Setup(model, write=write), words, tmp_path, tasks=tasks, reward=open_reward("tests:graded", pool=pool),
                        cfg=cfg, gen=GenConfig(max_new_tokens=12, n=4))  # fmt: skip
    # passed 1.0, does not compile -1.0, failed -0.3, raises -0.6
    assert trained.rows[0]["reward"] == pytest.approx((1.0 - 1.0 - 0.3 - 0.6) / 4)


def test_the_critic_warms_up_while_the_policy_stands(model, words, tmp_path):
    from gnomon.core.run import Run

    before = hash_of(model)
    run = Run(tmp_path / "run", method="ma-rlhf", verb="train", quiet=True)
    frozen = []

    def reward(prompts, completions):
        frozen.append(hash_of(model))
        return count_letters(prompts, completions)

    ppo = Ppo(gen=GEN, value_warmup=3)
    trained = macro_ppo(model, words, TASKS, reward, macro=Macro(n=3), ppo=ppo, train=TRAIN, run=run)
    run.close()
    assert len(frozen) == 3 + 4 and set(frozen[:4]) == {before} and len(set(frozen[4:])) == 3
    assert trained.rows[0]["log_ratio"] == 0
    assert all(p.requires_grad for p in model.parameters())


def test_several_updates_of_a_rollout_share_it(model, words, tmp_path):
    calls = []

    def reward(prompts, completions):
        calls.append(len(completions))
        return count_letters(prompts, completions)

    cfg = TrainConfig(**{**vars(TRAIN), "batch_size": 3, "max_steps": 8, "checkpoint_every": 4})
    trained = train(model, words, tmp_path, reward=reward, cfg=cfg, epochs=2, minibatches=2)
    assert calls == [6, 6]
    assert [row["reward"] for row in trained.rows[:4]] == [trained.rows[0]["reward"]] * 4
    assert trained.rows[0]["kl_to_old"] == pytest.approx(0, abs=1e-7) and trained.rows[3]["kl_to_old"] > 0
    with pytest.raises(BadConfig, match="multiple of 4"):
        bad = TrainConfig(**{**vars(cfg), "checkpoint_every": 3})
        train(model, words, tmp_path / "bad", cfg=bad, epochs=2, minibatches=2)


def test_a_training_that_died_goes_on_to_the_same_weights(model, words, tmp_path):
    def dying(prompts, completions):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(1)
        return count_letters(prompts, completions)

    whole = train(copy.deepcopy(model), words, tmp_path / "whole")
    calls, cut = [], copy.deepcopy(model)
    with pytest.raises(KeyboardInterrupt):
        train(cut, words, tmp_path / "cut", reward=dying)
    again = train(copy.deepcopy(model), words, tmp_path / "cut")
    assert hash_of(again.policy) == hash_of(whole.policy) and hash_of(again.critic) == hash_of(whole.critic)
    assert again.rows == whole.rows


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"reduction": "sum"}, r"train\.reduction"), ({"packing": True}, r"train\.packing"), ({"sharded": True}, r"train\.sharded"),
     ({"eval_share": 0.1}, r"train\.eval_share")],
)  # fmt: skip
def test_settings_without_meaning_here_are_refused(model, words, tmp_path, settings, field):
    with pytest.raises(BadConfig, match=field):
        train(model, words, tmp_path, cfg=TrainConfig(**{**vars(TRAIN), **settings}))
    with pytest.raises(BadConfig, match=r"ppo\.gen\.n"):
        train(model, words, tmp_path, gen=GenConfig(n=4))
