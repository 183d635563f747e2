import dataclasses

import pytest
import torch

from fixtures_training import SmallRun, small_batches, small_examples, small_model, train_small
from gnomon.core.rng import Rng
from gnomon.core.train import Batches, Evaluation, TrainConfig, causal_loss, fit, held_out, split
from gnomon.core.train.evaluation import Best
from gnomon.errors import BadConfig, MissingExtra

CFG = TrainConfig(lr=1e-2, batch_size=8, epochs=2)


def test_where_the_first_number_is_the_same_the_second_chooses(tmp_path):
    model = torch.nn.Linear(1, 1)
    best = Best(tmp_path / "best", Evaluation(dict, ("recall", "precision"), is_loss=False), True)
    kept = []
    for step, (recall, precision) in enumerate([(1.0, 0.2), (1.0, 0.6), (0.9, 0.9), (1.0, 0.6)]):
        with torch.no_grad():
            model.bias.fill_(step)
        best.offer(step, {"recall": recall, "precision": precision}, model)
        best.restore(model)
        kept.append(model.bias.item())
    assert kept == [0, 1, 1, 1]


def test_a_process_that_is_killed_while_it_writes_keeps_the_best_of_before(tmp_path, monkeypatch):
    model = torch.nn.Linear(1, 1)
    best = Best(tmp_path / "best", Evaluation(dict, ("loss",)), True)
    best.offer(1, {"loss": 2.0}, model)
    before = model.bias.item()

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("gnomon.core.train.evaluation.write_json", die)
    with torch.no_grad():
        model.bias.fill_(7.0)
    with pytest.raises(KeyboardInterrupt):
        best.offer(2, {"loss": 1.0}, model)
    best.restore(model)
    assert model.bias.item() == before
    monkeypatch.undo()
    with torch.no_grad():
        model.bias.fill_(8.0)
    best.offer(2, {"loss": 1.0}, model)  # the step is taken again
    best.restore(model)
    assert model.bias.item() == 8 and len(list((tmp_path / "best").iterdir())) == 2


def test_the_held_out_loss_is_the_mean_over_all_targets():
    model = small_model().eval()
    batches = Batches(small_examples(7), 3, pad_id=2, generator=Rng(0), micro_batch_size=2)
    with torch.no_grad():
        (value,) = held_out(batches, causal_loss).measure(model).values()
    whole = Batches(small_examples(7), 7, pad_id=2, generator=Rng(0)).at(0)
    assert value == pytest.approx(causal_loss(model, whole.micro[0]).item() / whole.targets, rel=1e-5)


def test_evaluations_come_when_they_are_wanted_and_the_best_weights_stay(tmp_path):
    seen = []

    def measure(model):
        seen.append({name: p.detach().clone() for name, p in model.named_parameters()})
        return {"distance": abs(len(seen) - 2)}  # the second is the best

    cfg = dataclasses.replace(CFG, eval_every=2, keep_best=True)
    model, history, run = train_small(tmp_path, cfg, eval=Evaluation(measure, ("distance",)))
    assert [row["step"] for row in history.records if "distance" in row] == [2, 4, 6]
    assert run.logged() == history.records
    assert all(torch.equal(p, seen[1][name]) for name, p in model.named_parameters())
    assert not all(torch.equal(p, seen[2][name]) for name, p in model.named_parameters())


def test_a_run_that_was_cut_off_ends_with_the_same_best_weights(tmp_path):
    values = iter([3.0, 1.0, 2.0, 1.0, 2.0])
    cfg = dataclasses.replace(CFG, eval_every=2, keep_best=True, checkpoint_every=2)

    def measure(_):
        return {"loss": next(values)}

    def stop(step):
        if step.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_small(tmp_path, cfg, eval=Evaluation(measure, ("loss",)), on_step=[stop])
    model, history, _ = train_small(tmp_path, cfg, eval=Evaluation(measure, ("loss",)))
    assert [row["loss"] for row in history.records if "lr" not in row] == [3.0, 1.0, 2.0]
    four, _, _ = train_small(tmp_path / "four", dataclasses.replace(CFG, max_steps=4))
    whole, _, _ = train_small(tmp_path / "whole", CFG)
    kept = next(model.parameters())
    assert not torch.equal(kept, next(whole.parameters()))  # the weights of step 4, on the way to 6
    assert not torch.equal(kept, next(four.parameters()))  # whose learning rate fell faster


def test_settings_about_evaluations_need_one(tmp_path):
    for change in {"eval_every": 2}, {"keep_best": True}, {"eval_share": 0.1}:
        with pytest.raises(BadConfig, match="nothing to evaluate on"):
            train_small(tmp_path, dataclasses.replace(CFG, **change))
    with pytest.raises(BadConfig, match="says which weights are best"):
        train_small(tmp_path, dataclasses.replace(CFG, keep_best=True), eval=lambda model: {"x": 1.0})


def test_what_belongs_together_is_set_aside_together():
    rows, groups = list(range(12)), [0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 4, 4]
    kept, aside = split(rows, 0.4, Rng(0), groups)
    assert sorted(kept + aside) == rows and kept == sorted(kept)
    assert not {groups[i] for i in kept} & {groups[i] for i in aside}
    assert len({groups[i] for i in aside}) == 2
    assert split(rows, 0.0, Rng(0)) == (rows, [])
    assert len(split(rows, 0.01, Rng(0))[1]) == 1
    with pytest.raises(BadConfig, match="at least two"):
        split([1, 2], 0.5, Rng(0), [7, 7])


def test_tensorboard_is_shown_every_step(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    cfg = dataclasses.replace(CFG, track=("tensorboard",))
    _, history, _ = train_small(tmp_path, cfg, eval=lambda model: {"held-out loss": 1.5})
    (file,) = (tmp_path / "track").glob("*/events.out*")
    events = reader.EventAccumulator(str(file.parent))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("loss")]
    assert losses == [(r["step"], pytest.approx(r["loss"])) for r in history.records if "loss" in r]
    assert [event.step for event in events.Scalars("held-out loss")] == [3, 6]
    assert all(event.value > 0 for event in events.Scalars("tokens_per_s"))


def test_a_tracker_that_is_not_installed_is_said_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr("gnomon.core.train.trackers.version", lambda name: None)
    with pytest.raises(MissingExtra, match=r"wandb is not installed.*gnomon\[track\]"):
        train_small(tmp_path, dataclasses.replace(CFG, track=("wandb",)))
    assert not (tmp_path / "metrics.jsonl").exists()


def test_more_steps_go_on_and_fewer_are_refused(tmp_path, caplog):
    constant = dataclasses.replace(CFG, schedule="constant")
    whole, curve, _ = train_small(tmp_path / "whole", constant)
    train_small(tmp_path / "part", dataclasses.replace(constant, max_steps=4))
    more, longer, _ = train_small(tmp_path / "part", constant)
    assert longer == curve
    assert all(torch.equal(a, b) for a, b in zip(more.parameters(), whole.parameters(), strict=True))
    with pytest.raises(BadConfig, match="holds 6 steps, and 4 are wanted"):
        train_small(tmp_path / "part", dataclasses.replace(constant, max_steps=4))
    assert "falls by the new number" not in caplog.text
    train_small(tmp_path / "falls", dataclasses.replace(CFG, max_steps=4))
    train_small(tmp_path / "falls", CFG)
    assert "on the way to 4 steps, now it is 6" in caplog.text


def test_what_only_says_how_may_change_in_between(tmp_path):
    """One list: what `TrainConfig.LOOSE` names, a checkpoint takes too."""
    loose = {
        "micro_batch_size": 2,
        "packing": True,
        "gradient_checkpointing": True,
        "keep_checkpoints": 1,
        "checkpoint_every": 1,
    }
    assert set(loose) | {"sharded", "track"} == set(TrainConfig.LOOSE)
    cfg = dataclasses.replace(CFG, max_length=32, schedule="constant")
    whole, curve, _ = train_small(tmp_path / "whole", cfg, dtype=torch.float64)
    train_small(tmp_path / "part", dataclasses.replace(cfg, max_steps=3), dtype=torch.float64)
    changed = dataclasses.replace(cfg, **loose)
    model, longer, _ = train_small(tmp_path / "part", changed, dtype=torch.float64)
    # The loss itself is a float32 number, whose last place depends on the kernel.
    assert longer.curve("loss") == pytest.approx(curve.curve("loss"), rel=1e-6)
    assert len(list((tmp_path / "part" / "checkpoints").iterdir())) == 1
    for a, b in zip(model.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-7)


def test_no_checkpoint_stays_where_none_is_wanted(tmp_path):
    train_small(tmp_path, dataclasses.replace(CFG, keep_checkpoints=0, checkpoint_every=2))
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_tokens_are_counted_without_padding(tmp_path):
    batch = small_batches(CFG).at(0)
    assert batch.tokens == sum(int(micro["attention_mask"].sum()) for micro in batch.micro)
    run = SmallRun(tmp_path)
    fit(small_model(), small_batches(CFG), causal_loss, CFG, run=run)
    line = (tmp_path / "metrics.jsonl").read_text().splitlines()[0]
    assert '"tokens_per_s"' in line and '"memory_gib"' in line
