"""Samples on demand: a model learns in seconds when its sums are worth another try, and a prompt stops at the first that is not."""

from pathlib import Path
from tempfile import TemporaryDirectory

from gnomon.core.models import GenConfig, new_llama, train_tiny, whole_words
from gnomon.core.rng import Rng
from gnomon.core.rollout import Sample, Task, open_reward
from gnomon.core.run import Run
from gnomon.core.train import Batches, Example, TrainConfig
from gnomon.methods.adaptive_sampling import (
    AdaptiveSampler,
    Answer,
    Drawing,
    Labelling,
    Learning,
    Restart,
    Schedule,
    SelfEvaluator,
    draw_samples,
    labelled,
    new_carrier,
    train_selfeval,
)

CONSTANT, GEN = Schedule("constant", 1.0), GenConfig(max_new_tokens=3)
tasks = [Task(f"{a}-{b}", f"{a} + {b} =", reference=str(a + b)) for a in range(5) for b in range(5)]


def train_cfg(steps):
    """A short training."""
    return TrainConfig(
        lr=5e-3, batch_size=64, epochs=steps, max_steps=steps, checkpoint_every=0, keep_checkpoints=0
    )


with TemporaryDirectory() as folder:
    run = Run(Path(folder) / "run", method="adaptive-sampling", verb="example", quiet=True)
    # A model that is mostly right where it says "so", and guesses where it does not.
    tokenizer = whole_words([*map(str, range(20)), "+", "=", "so"])
    examples = []
    for task in tasks:
        for word, off in (("so ", 0), ("so ", 0), ("", 0), ("", 1), ("", 2), ("", 3)):
            prompt = list(tokenizer(task.prompt)["input_ids"])
            answer = [*tokenizer(f"{word}{int(task.reference) + off}")["input_ids"], tokenizer.eos_token_id]
            examples.append(Example([*prompt, *answer], [-100] * len(prompt) + answer))
    model = new_llama(tokenizer, 32, 2, 4, 32, Rng(0))
    batches = Batches(examples, 64, pad_id=tokenizer.pad_token_id, generator=Rng(1))
    train_tiny(model, batches, train_cfg(300), run.within("policy"))

    # Its own samples, each labelled by the share of the others that are no better.
    drawing = Drawing(GEN, 8, CONSTANT, Restart.of(CONSTANT, GEN))
    reward = open_reward("number")
    rows = []
    for task, drawn in zip(tasks, draw_samples(model, tokenizer, tasks, drawing, Rng(2)), strict=True):
        rewards = list(reward([Sample(task, sample["text"]) for sample in drawn["samples"]]))
        rows += labelled(drawn, rewards, drawing, Labelling(), Rng(3))

    carrier = new_carrier("token", model, tokenizer)  # one token asks, two reply
    evaluator = SelfEvaluator(model, tokenizer, carrier, drawing.restart)
    answers = [Answer.of(row) for row in rows]
    train_selfeval(
        evaluator, answers, train_cfg(100), Learning("lm"), run=run.within("asks"), pad_id=tokenizer.pad_token_id
    )  # fmt: skip
    run.close()

sampler = AdaptiveSampler(evaluator, GEN, CONSTANT, gamma=0.8, n_max=8)
for result in sampler.sample(["1 + 2 =", "4 + 3 ="], Rng(1)):
    print(
        f"{result.k_used} samples, stopped because {result.trace['why']}; c {result.c:.3f}: {result.text.strip()}"
    )
    for sample in result.all_samples:
        print(f"    c {sample.c:.3f}  {sample.text.strip()}")
