"""Our sampling on a real pretrained model against transformers' own, and what reading a shared instruction once is worth.

    python benchmarks/embedded.py [--only SECTION ...] [--out docs/results/bench-embedded.json]

SmolLM2-135M-Instruct from its package, float32, one thread. Times are CPU seconds of the process, the median of rounds in which the
ways take turns.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from common.record import main
from common.timing import take_turns

from gnomon.core.llm.base import Message, Request
from gnomon.core.llm.local import Template
from gnomon.core.models import GenConfig, ModelHandle
from gnomon.core.models.load.embedded import embedded, locate
from gnomon.core.models.sampling.decoding import read_prompts
from gnomon.core.models.sampling.generate import Reader, generate
from gnomon.core.models.sampling.likelihood import score_choices
from gnomon.core.models.sampling.prefix import read_shared, shared_length
from gnomon.core.rng import Rng

REF, NEW, ROUNDS = "embedded:smollm2", 32, 3

COUNTRIES = [
    "France",
    "Spain",
    "Italy",
    "Germany",
    "Japan",
    "Turkey",
    "Egypt",
    "Peru",
    "Kenya",
    "Norway",
    "Austria",
    "Canada",
    "Brazil",
    "India",
    "China",
    "Poland",
    "Greece",
    "Cuba",
    "Chile",
    "Iran",
    "Iraq",
    "Nepal",
    "Ghana",
    "Sweden",
    "Finland",
    "Portugal",
    "Ireland",
    "Mexico",
    "Vietnam",
    "Thailand",
    "Morocco",
    "Hungary",
]

RULES = (
    "You judge whether a sentence about a country is right. Read it slowly, think of what an atlas or an "
    "encyclopaedia says, and do not let the style of the sentence sway you: a long sentence can be wrong and a "
    "short one right. Names may be written in any spelling that is in use. A sentence that is right in one "
    "part and wrong in another is wrong. A sentence that cannot be checked is wrong too. Answer with the one "
    "word PASS where it is right and with the one word FAIL where it is wrong, and with nothing else: no "
    "reasons, no full stop, no quotation marks. The sentence follows on a line of its own."
)


def open_model() -> ModelHandle:
    """The model on one thread."""
    torch.set_num_threads(1)
    return ModelHandle.load(REF, device="cpu", dtype="float32")


def encode(handle: ModelHandle, contents: list[str]) -> list[list[int]]:
    """Chat prompts as token ids."""
    template = Template(handle.tokenizer, REF)
    return [template.encode(Request((Message("user", content),))) for content in contents]


def questions() -> list[str]:
    """A question on each country, of four lengths."""
    return [
        f"What is the capital of {name}?{' Answer in one short sentence.' * (i % 4)}"
        for i, name in enumerate(COUNTRIES)
    ]


def generation() -> dict[str, Any]:
    """Greedy answers to 32 questions of different lengths, in one batch: tokens and time against `model.generate`."""
    handle = open_model()
    prompts = encode(handle, questions())
    ends = {handle.tokenizer.eos_token_id}

    def ours() -> list[list[int]]:
        gen = GenConfig(NEW, temperature=0.0, batch_size=len(prompts))
        return [list(done.token_ids) for (done,) in handle.generate(prompts, gen, generator=Rng(0))]

    def theirs() -> list[list[int]]:
        padded = handle.tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
        with torch.no_grad():
            written = handle.model.generate(**padded, max_new_tokens=NEW, do_sample=False)
        rows = written[:, padded["input_ids"].shape[1] :].tolist()
        return [row[: next((i + 1 for i, t in enumerate(row) if t in ends), len(row))] for row in rows]

    same = [a == b for a, b in zip(ours(), theirs(), strict=True)]
    seconds = take_turns({"model.generate, one batch": theirs, "gnomon": ours}, ROUNDS)
    plain, own = seconds.values()
    return {
        "prompts": len(prompts),
        "prompt_tokens": [min(map(len, prompts)), max(map(len, prompts))],
        "new_tokens_at_most": NEW,
        "same_tokens": f"{sum(same)} of {len(same)} prompts",
        "cpu_seconds": seconds,
        "time_ratio": own / plain,
    }


def shared_instruction() -> dict[str, Any]:
    """A judge of 32 sentences under one long instruction: each prompt read whole, against the instruction read once."""
    handle = open_model()
    prompts = encode(handle, [f"{RULES}\nThe capital of {name} is Paris." for name in COUNTRIES])
    gen = GenConfig(4, temperature=0.0, batch_size=16)
    model, tokenizer = handle.model, handle.tokenizer
    pad_id = int(tokenizer.pad_token_id)
    readers = {"each prompt whole": read_prompts, "the shared part once": read_shared}

    def write(reader: Any) -> list[list[int]]:
        read = partial(reader, model, pad_id=pad_id)
        written = generate(model, tokenizer, prompts, gen, generator=Rng(0), reader=Reader(read))
        return [list(done.token_ids) for (done,) in written]

    tokens = [write(reader) for reader in readers.values()]
    seconds = take_turns({name: partial(write, reader) for name, reader in readers.items()}, ROUNDS)
    whole, once = seconds.values()
    scored = take_turns(
        {"PASS or FAIL by likelihood": lambda: score_choices(model, tokenizer, prompts, ["PASS", "FAIL"])},
        ROUNDS,
    )
    return {
        "prompts": len(prompts),
        "prompt_tokens": [min(map(len, prompts)), max(map(len, prompts))],
        "shared_tokens": shared_length(prompts),
        "batch_size": gen.batch_size,
        "new_tokens_at_most": gen.max_new_tokens,
        "same_tokens": f"{sum(a == b for a, b in zip(*tokens, strict=True))} of {len(prompts)} prompts",
        "cpu_seconds": seconds | scored,
        "times_faster": whole / once,
    }


def llama_cpp() -> dict[str, Any]:
    """The same questions through llama.cpp (package xllamacpp) on the file with its 4-bit weights: in 32 slots, and in one."""
    try:
        import xllamacpp
    except ImportError:
        return {"skipped": "pip install xllamacpp brings llama.cpp as a wheel"}
    handle = open_model()
    prompts = encode(handle, questions())

    def peer(slots: int) -> Any:
        options = xllamacpp.CommonParams()
        options.model.path = str(locate(embedded(REF.partition(":")[2]))[0])
        options.n_ctx, options.n_parallel, options.warmup, options.verbosity = 128 * slots, slots, False, 0
        options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
        return xllamacpp.Server(options)

    def ours(batch_size: int) -> list[str]:
        gen = GenConfig(NEW, temperature=0.0, batch_size=batch_size)
        return [done.text.strip() for (done,) in handle.generate(prompts, gen, generator=Rng(0))]

    def theirs(server: Any) -> list[str]:
        request = {"prompt": prompts, "max_tokens": NEW, "temperature": 0.0, "cache_prompt": False}
        choices = server.handle_completions(request)["choices"]
        return [c["text"].strip() for c in sorted(choices, key=lambda c: c["index"])]

    many, single = peer(len(prompts)), peer(1)
    same = [a == b for a, b in zip(ours(len(prompts)), theirs(many), strict=True)]
    seconds = take_turns(
        {
            "llama.cpp, 32 slots": lambda: theirs(many),
            "llama.cpp, one slot": lambda: theirs(single),
            "gnomon, one batch": lambda: ours(len(prompts)),
            "gnomon, one by one": lambda: ours(1),
        },
        ROUNDS,
    )
    slots, slot, batch, alone = seconds.values()
    return {
        "prompts": len(prompts),
        "new_tokens_at_most": NEW,
        "same_texts": f"{sum(same)} of {len(same)} prompts",
        "weights": "4 bits there (Q4_1), float32 here",
        "cpu_seconds": seconds,
        "time_ratio_batch": batch / slots,
        "time_ratio_one_by_one": alone / slot,
    }


SECTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "generation": generation,
    "llama_cpp": llama_cpp,
    "shared_instruction": shared_instruction,
}


if __name__ == "__main__":
    MODEL = {
        "ref": REF,
        "class": "LlamaForCausalLM",
        "dtype": "float32",
        "weights": "SmolLM2-135M-Instruct, Q4_1",
    }
    sys.exit(main("embedded", __doc__, SECTIONS, model=MODEL))
