import dataclasses

import pytest
import torch

from fixtures_training import SmallRun, small_batches, small_examples, small_model, train_small
from gnomon.core.models import add_lora
from gnomon.core.rng import Rng
from gnomon.core.train import Batches, TrainConfig, causal_loss, fit
from gnomon.errors import BadConfig, UserError

CFG = TrainConfig(lr=1e-2, batch_size=8, epochs=2)


@pytest.fixture(scope="module", autouse=True)
def _accelerate(tmp_path_factory):
    """The first fit loads half of accelerate; no single test should seem slow for it."""
    train_small(tmp_path_factory.mktemp("first"), dataclasses.replace(CFG, max_steps=1))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_the_curve_is_that_of_a_loop_written_out(tmp_path):
    """An independent loop over the same batches: mean over targets, clip, AdamW, linear decay.

    In float64, where the two differ by next to nothing. The bias of a key has no gradient, as softmax does not see what is added to
    all scores of a query. AdamW divides what rounding leaves there by its own size, and in float32 that moves the bias.
    """
    model, history, run = train_small(tmp_path, CFG, dtype=torch.float64)
    other = small_model(dtype=torch.float64).train()
    decay = [p for p in other.parameters() if p.ndim > 1]
    spare = [p for p in other.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.01}, {"params": spare, "weight_decay": 0}], lr=1e-2
    )
    batches, losses = small_batches(CFG), []
    for step in range(6):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / 6)
        loss = other(**batches.at(step).micro[0]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(other.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert history.curve("loss") == pytest.approx(losses, rel=1e-5)
    for mine, expected in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-9, rtol=1e-7)
    _, single, _ = train_small(tmp_path / "float32", CFG)
    assert single.curve("loss") == pytest.approx(losses, rel=1e-5)
    assert history.curve("step") == [1, 2, 3, 4, 5, 6]
    assert history.curve("epoch")[-1] == 2
    assert history.curve("lr") == pytest.approx([1e-2 * (1 - step / 6) for step in range(6)])
    assert run.logged() == history.records
    assert (run.total, run.advanced) == (6, 6)


@pytest.mark.parametrize("reduction", ["token_mean", "sum"])
def test_accumulated_micro_batches_agree_with_one_batch(tmp_path, reduction):
    cfg = dataclasses.replace(CFG, reduction=reduction, grad_clip=None)
    _, one, _ = train_small(tmp_path / "8", cfg)
    _, two, _ = train_small(tmp_path / "2x4", dataclasses.replace(cfg, micro_batch_size=4))
    _, three, _ = train_small(tmp_path / "3", dataclasses.replace(cfg, micro_batch_size=3))
    for history in (two, three):
        assert history.curve("loss") == pytest.approx(one.curve("loss"), rel=1e-5)
        assert history.curve("grad_norm") == pytest.approx(one.curve("grad_norm"), rel=1e-4)


def test_a_sum_is_the_mean_times_the_targets(tmp_path):
    free = dataclasses.replace(CFG, grad_clip=None, max_steps=1)
    _, mean, _ = train_small(tmp_path / "mean", free)
    _, total, _ = train_small(tmp_path / "sum", dataclasses.replace(free, reduction="sum"))
    targets = small_batches(CFG).at(0).targets
    assert total.curve("grad_norm")[0] == pytest.approx(targets * mean.curve("grad_norm")[0], rel=1e-4)
    assert total.curve("loss") == pytest.approx(mean.curve("loss"))  # shown per target either way


def test_the_same_seed_repeats_bit_for_bit_and_dropout_has_a_stream_of_its_own(tmp_path):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, one, _ = train_small(tmp_path / "a", CFG, dropout=0.2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second, two, _ = train_small(tmp_path / "b", CFG, dropout=0.2)
    assert one == two
    assert same(first, second)
    _, plain, _ = train_small(tmp_path / "c", CFG)
    assert plain != one


def test_stopping_in_between_and_going_on_gives_the_same_bits(tmp_path):
    class Interrupted(Exception):
        pass

    def interrupt(step):
        if step.step == 5:
            raise Interrupted

    cfg = dataclasses.replace(CFG, checkpoint_every=2)
    expected, whole, _ = train_small(tmp_path / "whole", cfg, dropout=0.2)
    with pytest.raises(Interrupted):
        train_small(tmp_path / "cut", cfg, dropout=0.2, on_step=[interrupt])
    model, history, run = train_small(tmp_path / "cut", cfg, dropout=0.2)
    assert history == whole
    assert same(model, expected)
    assert run.advanced == 6
    assert run.logged() == whole.records  # step 5 was taken twice and is there once
    again, repeated, _ = train_small(tmp_path / "cut", cfg, dropout=0.2)
    assert repeated == whole
    assert same(again, expected)


def test_two_checkpoints_are_kept_and_an_unfinished_one_is_not_taken(tmp_path):
    cfg = dataclasses.replace(CFG, checkpoint_every=1)
    train_small(tmp_path, cfg)
    folder = tmp_path / "checkpoints"
    assert sorted(p.name for p in folder.iterdir()) == ["step-00000005", "step-00000006"]
    assert sorted(p.name for p in (folder / "step-00000006").iterdir()) == [
        "model.safetensors",
        "optimizer.pt",
        "state.json",
    ]
    (folder / "step-00000006").rename(folder / ".unfinished-00000003")
    _, history, _ = train_small(tmp_path, cfg)
    assert history.curve("step") == [1, 2, 3, 4, 5, 6]
    assert sorted(p.name for p in folder.iterdir()) == ["step-00000005", "step-00000006"]


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    train_small(tmp_path, CFG)
    with pytest.raises(BadConfig, match=r"made with train.lr=0.01; this run has 0.02.*--fresh"):
        train_small(tmp_path, dataclasses.replace(CFG, lr=0.02))
    train_small(tmp_path, dataclasses.replace(CFG, micro_batch_size=2))  # computes the same batches
    other = torch.nn.Linear(2, 2)
    with pytest.raises(BadConfig, match="belongs to another model"):
        fit(other, small_batches(CFG), causal_loss, CFG, run=SmallRun(tmp_path))


def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(tmp_path):
    steps = []

    def poisoned(model, batch):
        steps.append(1)
        return causal_loss(model, batch) * (float("nan") if len(steps) == 3 else 1)

    model, run = small_model(), SmallRun(tmp_path)
    with pytest.raises(UserError, match=r"stopped at step 3: the loss is nan\. Lower --train\.lr"):
        fit(model, small_batches(CFG), poisoned, CFG, run=run)
    assert all(p.isfinite().all() for p in model.parameters())
    assert len(run.logged()) == 2


def test_a_gradient_that_is_not_finite_stops_the_run_too(tmp_path):
    def steep(model, batch):  # the root of 0 is 0, its slope is not finite
        return causal_loss(model, batch) + (0 * model.transformer.wte.weight.sum()).sqrt()

    with pytest.raises(UserError, match=r"stopped at step 1: the length of the gradient is (nan|inf)"):
        fit(small_model(), small_batches(CFG), steep, CFG, run=SmallRun(tmp_path))


def test_callbacks_and_evaluation_see_the_model(tmp_path):
    seen = []

    def evaluate(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        seen.append("eval")
        return {"held_out": 1.5}

    cfg = dataclasses.replace(CFG, max_steps=4)
    _, history, run = train_small(tmp_path, cfg, on_step=[lambda step: seen.append(step.step)], eval=evaluate)
    assert seen == [1, 2, 3, "eval", 4, "eval"]  # after the epoch's three steps and after the last
    assert history.curve("held_out") == [1.5, 1.5]
    assert run.logged() == history.records


def test_only_the_main_process_logs(tmp_path):
    _, history, run = train_small(tmp_path, CFG, is_main=False)
    assert not (tmp_path / "metrics.jsonl").exists()
    assert run.total is None
    assert len(history.records) == 6


def test_groups_replace_the_usual_ones(tmp_path):
    model = small_model()
    before = model.transformer.wpe.weight.clone()
    run, wte = SmallRun(tmp_path), model.transformer.wte.weight
    fit(model, small_batches(CFG), causal_loss, CFG, run=run, groups=[{"params": [wte], "lr": 0.5}])
    assert torch.equal(model.transformer.wpe.weight, before)
    assert run.logged()[0]["lr"] == 0.5


def test_mixed_precision_comes_close(tmp_path):
    _, full, _ = train_small(tmp_path / "no", CFG)
    _, mixed, _ = train_small(tmp_path / "bf16", dataclasses.replace(CFG, precision="bf16"))
    assert mixed.curve("loss") == pytest.approx(full.curve("loss"), rel=0.02)
    assert mixed.curve("loss") != full.curve("loss")


def test_adapters_train_alone_and_their_checkpoint_is_small(tmp_path):
    cfg = dataclasses.replace(CFG, checkpoint_every=0)

    def train():
        model = small_model()
        torch.manual_seed(3)
        adapted = add_lora(model, 2)
        frozen = {n: p.clone() for n, p in adapted.named_parameters() if not p.requires_grad}
        history = fit(adapted, small_batches(cfg), causal_loss, cfg, run=SmallRun(tmp_path))
        assert all(torch.equal(p, frozen[n]) for n, p in adapted.named_parameters() if n in frozen)
        return adapted, history

    first, history = train()
    assert history.curve("loss")[-1] < history.curve("loss")[0]
    newest = tmp_path / "checkpoints" / "step-00000006" / "model.safetensors"
    assert newest.stat().st_size < 12_000  # the whole model has 28 kB
    second, again = train()  # comes from the checkpoint
    assert again == history
    assert same(first, second)


def test_a_few_sentences_are_learnt_by_heart(tmp_path):
    cfg = TrainConfig(
        lr=3e-2, batch_size=4, epochs=60, warmup_ratio=0.1, schedule="cosine", checkpoint_every=0
    )
    model = small_model()
    batches = Batches(small_examples(4), 4, pad_id=2, generator=Rng(0))
    history = fit(model, batches, causal_loss, cfg, run=SmallRun(tmp_path))
    assert history.curve("loss")[0] > 3.5  # about ln 40
    assert history.curve("loss")[-1] < 0.1


def in_bf16(model):
    return model.to(torch.bfloat16)


def test_a_16_bit_model_learns_like_a_32_bit_one(tmp_path):
    """Each update is smaller than what bf16 can add to most weights: rounded away, nothing would be learned."""
    cfg = dataclasses.replace(CFG, lr=1e-4, epochs=8, schedule="constant", weight_decay=0.0)
    start = in_bf16(small_model())
    low, high = in_bf16(small_model()), in_bf16(small_model()).float()
    curves = [
        fit(model, small_batches(cfg), causal_loss, cfg, run=SmallRun(tmp_path / name)).curve("loss")
        for name, model in (("low", low), ("high", high))
    ]
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)
    assert all(parameter.dtype == torch.bfloat16 for parameter in low.parameters())
    for mine, other in zip(low.parameters(), high.parameters(), strict=True):
        assert torch.equal(mine, other.to(torch.bfloat16))
    pairs = list(zip(low.parameters(), start.parameters(), strict=True))
    kept = sum(int((a == b).sum()) for a, b in pairs) / sum(a.numel() for a, _ in pairs)
    plain = in_bf16(small_model()).train()  # the same steps on bf16 weights as they are
    optimizer, batches = torch.optim.AdamW(plain.parameters(), lr=1e-4, weight_decay=0), small_batches(cfg)
    for step in range(len(batches) * cfg.epochs):
        plain(**batches.at(step).micro[0]).loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    pairs = list(zip(plain.parameters(), start.parameters(), strict=True))
    kept_plain = sum(int((a == b).sum()) for a, b in pairs) / sum(a.numel() for a, _ in pairs)
    assert kept < 0.75 * kept_plain


def test_adapters_on_a_16_bit_model_train_in_mixed_precision_and_leave_it_as_it_is(tmp_path):
    model = in_bf16(small_model())
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    adapted = add_lora(model, 4)
    types = {name: weight.dtype for name, weight in adapted.named_parameters()}
    history = fit(adapted, small_batches(CFG), causal_loss, CFG, run=SmallRun(tmp_path))
    assert history.curve("loss")[-1] < history.curve("loss")[0]
    assert {name: weight.dtype for name, weight in adapted.named_parameters()} == types
    for name, weight in adapted.get_base_model().named_parameters():
        if "lora" not in name:
            assert torch.equal(weight, before[name.replace(".base_layer", "")]), name


def test_a_16_bit_training_that_was_interrupted_goes_on_exactly(tmp_path):
    cfg = dataclasses.replace(CFG, checkpoint_every=2)
    whole = in_bf16(small_model())
    fit(whole, small_batches(cfg), causal_loss, cfg, run=SmallRun(tmp_path / "whole"))

    class Stop(Exception):
        pass

    def stop(step):
        if step.step == 5:
            raise Stop

    halted = in_bf16(small_model())
    with pytest.raises(Stop):
        fit(halted, small_batches(cfg), causal_loss, cfg, run=SmallRun(tmp_path / "part"), on_step=[stop])
    again = in_bf16(small_model())
    fit(again, small_batches(cfg), causal_loss, cfg, run=SmallRun(tmp_path / "part"))
    assert same(whole, again)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, caplog):
    cfg = dataclasses.replace(CFG, checkpoint_every=2)
    whole, _, _ = train_small(tmp_path / "whole", cfg)
    for name in ("model.safetensors", "optimizer.pt", "state.json"):
        folder = tmp_path / name
        train_small(folder, cfg)
        (newest, before) = sorted((folder / "checkpoints").glob("step-*"), reverse=True)
        file = newest / name
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        again, history, _ = train_small(folder, cfg)
        assert same(whole, again), name
        assert len(history.curve("loss")) == 6
        assert f"{newest.name} is damaged" in caplog.text
        assert before.name in {path.name for path in (folder / "checkpoints").glob("step-*")}


def test_other_data_are_noticed_and_another_micro_batch_is_not(tmp_path):
    cfg = dataclasses.replace(CFG, checkpoint_every=2)
    run = SmallRun(tmp_path)
    fit(small_model(), small_batches(cfg), causal_loss, cfg, run=run)
    smaller = dataclasses.replace(cfg, micro_batch_size=2)
    fit(small_model(), small_batches(smaller), causal_loss, smaller, run=run)
    examples = small_examples()
    examples[3] = dataclasses.replace(examples[3], labels=[-100, *examples[3].labels[1:-1], 4])
    other = Batches(examples, cfg.batch_size, pad_id=2, generator=Rng(0).child("data"))
    with pytest.raises(BadConfig, match=r"was made from other data than there are now"):
        fit(small_model(), other, causal_loss, cfg, run=run)
