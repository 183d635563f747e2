"""How fast the model handle samples and captures, against what one would write with transformers alone.

    python benchmarks/models.py [--only SECTION ...] [--out docs/results/bench-models.json]

One Llama with random weights, wide enough that matrix products take most of the time, on one thread. Times are CPU
seconds of the process, the median of rounds in which the ways take turns; ratios are what to look at. Peak memory is
that of a fresh process per way, over what it held with the model loaded and warm (Linux only).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from common.memory import in_fresh_processes, peak_over_now
from common.record import main
from common.timing import take_turns

from gnomon.core.models import GenConfig, ModelHandle, new_llama, train_bpe
from gnomon.core.rng import Rng

Numbers = dict[str, Any]

SIZE = {"hidden": 512, "layers": 8, "heads": 8, "max_length": 1024}
VOCABULARY = 16_000


def make_handle() -> ModelHandle:
    """The model, a function of nothing but the sizes above; no token ends a text, so every way writes as much."""
    tokenizer = train_bpe(["def add(a, b):\n    return a + b\n"], 300)
    model = new_llama(tokenizer, **SIZE, generator=Rng(0))  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.resize_token_embeddings(VOCABULARY, mean_resizing=False)
    tokenizer.eos_token = None
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    return ModelHandle(model.eval(), tokenizer)


def make_prompts(count: int, shortest: int, longest: int) -> list[list[int]]:
    """Token ids at random, of lengths spread evenly and then shuffled."""
    draw = Rng(0).child("prompts", count, longest).python()
    lengths = [shortest + (longest - shortest) * i // max(1, count - 1) for i in range(count)]
    draw.shuffle(lengths)
    return [[draw.randrange(3, 300) for _ in range(length)] for length in lengths]


def row_by_row(handle: ModelHandle, prompts: list[list[int]], **settings: Any) -> list[list[int]]:
    """What `model.generate` adds to each prompt, one call per prompt."""
    written = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        with torch.no_grad():
            found = handle.model.generate(
                ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **settings
            )
        written += found[:, len(prompt) :].tolist()
    return written


def generation() -> Numbers:
    """Greedy continuations of prompts of different lengths, and several samples of each of a few prompts."""
    handle = make_handle()
    prompts, few, new, n = make_prompts(32, 16, 128), make_prompts(4, 128, 256), 24, 8
    greedy = GenConfig(max_new_tokens=new, temperature=0, batch_size=32)
    sampled = GenConfig(max_new_tokens=new, n=n, batch_size=32)

    def ours(which: list[list[int]], gen: GenConfig) -> list[list[int]]:
        found = handle.generate(which, gen, generator=Rng(0))
        return [list(completion.token_ids) for completions in found for completion in completions]

    same = [
        a == b
        for a, b in zip(
            ours(prompts, greedy),
            row_by_row(handle, prompts, max_new_tokens=new, do_sample=False),
            strict=True,
        )
    ]
    found = {}
    for name, which, gen, settings in (
        ("greedy", prompts, greedy, {"do_sample": False}),
        ("samples", few, sampled, {"do_sample": True, "num_return_sequences": n, "top_k": 0}),
    ):
        seconds = take_turns(
            {
                "model.generate, row by row": lambda which=which, settings=settings: row_by_row(
                    handle, which, max_new_tokens=new, **settings
                ),
                "gnomon": lambda which=which, gen=gen: ours(which, gen),
            },
            rounds=3,
        )
        plain, batched = seconds.values()
        found[name] = {
            "prompts": len(which),
            "samples_per_prompt": gen.n,
            "prompt_tokens": [min(map(len, which)), max(map(len, which))],
            "new_tokens": new,
            "cpu_seconds": seconds,
            "times_faster": plain / batched,
        }
    return {"same_greedy_tokens": f"{sum(same)} of {len(same)} prompts", **found}


TEXTS, LENGTH, AT_ONCE, POSITIONS = 32, 256, 4, 3


def keep_everything(handle: ModelHandle, batches: list[list[list[int]]]) -> list[Any]:
    """All hidden states of all tokens, as the library returns them."""
    kept = []
    for rows in batches:
        ids = torch.tensor(rows)
        with torch.no_grad():
            kept.append(
                handle.model(ids, output_hidden_states=True, use_cache=False, logits_to_keep=1).hidden_states
            )
    return kept


def keep_positions(handle: ModelHandle, batches: list[list[list[int]]]) -> list[Any]:
    """The states of a few tokens per text after every block."""
    from gnomon.core.models.batch import pad

    sites = [f"{i}.resid_post" for i in range(SIZE["layers"])]
    where = [[-1, -2, 7]] * AT_ONCE
    return [handle.capture(pad(rows, 0), sites, where=where) for rows in batches]


CAPTURES = {
    "output_hidden_states=True, everything kept": keep_everything,
    "gnomon, three tokens a text": keep_positions,
}


def text_batches() -> list[list[list[int]]]:
    """Texts of equal length, a few at a time."""
    rows = make_prompts(TEXTS, LENGTH, LENGTH)
    return [rows[i : i + AT_ONCE] for i in range(0, TEXTS, AT_ONCE)]


def peak_mib(name: str) -> float:
    """Most memory that one way takes over the warm process; runs in a process of its own."""
    torch.set_num_threads(1)
    handle, batches = make_handle(), text_batches()
    CAPTURES[name](handle, batches[:1])
    return peak_over_now(lambda: CAPTURES[name](handle, batches))


def bytes_of(kept: Any) -> int:
    """Storage that what was kept holds on to."""
    if isinstance(kept, torch.Tensor):
        return kept.untyped_storage().nbytes()
    return sum(map(bytes_of, kept.values() if isinstance(kept, dict) else kept))


def capture() -> Numbers:
    """States after every block at three tokens a text, against asking for all states and keeping them."""
    handle, batches = make_handle(), text_batches()
    ways = {name: lambda way=way: way(handle, batches) for name, way in CAPTURES.items()}
    seconds = take_turns(ways, rounds=3)
    kept = {name: bytes_of(way()) / 2**20 for name, way in ways.items()}
    peaks = in_fresh_processes(peak_mib, CAPTURES)
    (plain, ours), (held, ours_held), (peak, our_peak) = (d.values() for d in (seconds, kept, peaks))
    return {
        "texts": TEXTS,
        "tokens_per_text": LENGTH,
        "texts_at_once": AT_ONCE,
        "tokens_kept_per_text": POSITIONS,
        "cpu_seconds": seconds,
        "kept_mib": kept,
        "peak_mib_over_warm_process": peaks,
        "time_ratio": plain / ours,
        "kept_ratio": held / ours_held,
        "peak_ratio": peak / our_peak,
    }


SECTIONS: dict[str, Callable[[], Numbers]] = {"generation": generation, "capture": capture}


if __name__ == "__main__":
    MODEL = {"class": "LlamaForCausalLM", **SIZE, "vocabulary": VOCABULARY, "weights": "random"}
    sys.exit(main("models", __doc__, SECTIONS, model=MODEL))
