"""How fast and how lean the lens and the edit of vl-lens are, against the direct way to write them.

    python benchmarks/vl_lens.py [--only SECTION ...] [--out docs/results/bench-vl-lens.json]

One LLaVA with random weights: 576 image tokens, width 1024, 32,000 words, on one thread. Times are CPU seconds of the
process, the median of rounds in which the ways take turns; ratios are what to look at. Peak memory is that of a fresh
process per way, over what it held with the model loaded and warm (Linux only).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from common.memory import in_fresh_processes, peak_over_now
from common.record import main
from common.timing import take_turns
from PIL import Image
from torch import Tensor

from gnomon.core.models import LlavaSizes, ModelHandle, tiny_llava, train_bpe
from gnomon.core.rng import Rng
from gnomon.methods.vl_lens import project_away
from gnomon.methods.vl_lens.lens.lens import Reading, lens

Numbers = dict[str, Any]

SIZE = {"hidden": 1024, "layers": 4, "heads": 8, "intermediate": 2048, "image_size": 336, "patch": 14}
VOCABULARY = 32_000
PROMPT = "Write a detailed description."
WORDS = [chr(code) for code in range(ord("a"), ord("a") + 20)]
"""Twenty words of one piece each, so that the direct way needs no more than it has."""


@cache
def make_handle() -> ModelHandle:
    """The model, a function of the sizes above."""
    tokenizer = train_bpe(["a picture of a cat"], 262)
    tokenizer.add_tokens([f"<{i}>" for i in range(VOCABULARY - len(tokenizer) - 1)])
    return ModelHandle(*tiny_llava(tokenizer, LlavaSizes(max_length=1024, **SIZE), generator=Rng(0)))  # type: ignore[arg-type]


def picture(seed: int = 0) -> Image.Image:
    """Noise of the size that the tower sees."""
    side = SIZE["image_size"]
    return Image.fromarray(Rng(seed).numpy().integers(0, 256, (side, side, 3), dtype=np.uint8))


@torch.no_grad()
def direct(handle: ModelHandle) -> Tensor:
    """All states of the image through the output embedding and a softmax at once: [L+1, n, V], of which 20 columns are kept."""
    batch = handle.encode([handle.prompt(PROMPT)], images=[picture()])
    output = handle.model(**batch.inputs("vlm"), output_hidden_states=True, use_cache=False, logits_to_keep=1)
    states = torch.stack([state[batch.image_mask] for state in output.hidden_states])
    probs = handle.model.get_output_embeddings()(states).softmax(-1)
    columns = [handle.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in WORDS]
    return probs[..., columns].clone()


def chunked(handle: ModelHandle, **options: Any) -> Tensor:
    """The room's lens. Each word is also looked for with a space in front."""
    return torch.from_numpy(lens(handle, [picture()], PROMPT, WORDS, Reading(**options)).scores[0])


LENSES: dict[str, Callable[[ModelHandle], Tensor]] = {
    "direct, [L+1, n, V]": direct,
    "gnomon": partial(chunked, tops=0),
    "gnomon, and the 5 likeliest words of each place": chunked,
    "gnomon, over the 50 likeliest words of each place": partial(chunked, topk=50),
}


def reading() -> Numbers:
    """Twenty words at every layer and image token of one image."""
    handle = make_handle()
    with torch.no_grad():  # the same numbers: where a word's own spelling counts, which random weights decide
        found = lens(handle, [picture()], PROMPT, WORDS, Reading(tops=0))
        same = [w for w, form in enumerate(found.spellings[0]) if not form.startswith(" ")]
        difference = float(np.abs(found.scores[0][..., same] - direct(handle).numpy()[..., same]).max())
    seconds = take_turns({name: partial(way, handle) for name, way in LENSES.items()}, rounds=3)
    peaks = in_fresh_processes(peak_mib, LENSES)
    plain = next(iter(LENSES))
    return {
        "words": len(WORDS),
        "image_tokens": (SIZE["image_size"] // SIZE["patch"]) ** 2,
        "words_compared": len(same),
        "largest_difference": difference,
        "cpu_seconds": seconds,
        "peak_mib_over_warm_process": peaks,
        "times_faster": {name: seconds[plain] / seconds[name] for name in LENSES},
        "times_leaner": {name: peaks[plain] / peaks[name] for name in LENSES},
    }


def peak_mib(name: str) -> float:
    """Most memory that one way takes over the warm process; runs in a process of its own."""
    torch.set_num_threads(1)
    handle = make_handle()
    batch = handle.encode([handle.prompt(PROMPT)], images=[picture()])
    handle.capture(batch, ["final_norm"], where="last")  # a pass over the prompt, without any lens
    return peak_over_now(lambda: LENSES[name](handle))


def token_by_token(states: Tensor, directions: Tensor, alpha: float) -> Tensor:
    """The edit as a loop over images, words and tokens."""
    new = states.clone()
    for image in new:
        for t in directions:
            for i in range(len(image)):
                p = torch.dot(image[i], t) / torch.dot(t, t)
                if p > 0:
                    image[i] = image[i] - alpha * p * t
    return new


def editing() -> Numbers:
    """Words taken out of the tokens of images, all at once and token by token."""
    draw, found = Rng(0).child("states").torch(), {}
    for images, words in ((1, 1), (1, 5), (8, 5)):
        states = torch.randn(images, 576, SIZE["hidden"], generator=draw)
        directions = torch.randn(words, SIZE["hidden"], generator=draw)
        ways = {
            "token by token": partial(token_by_token, states, directions, 1.5),
            "gnomon": partial(project_away, states, directions, 1.5),
            "gnomon, joint": partial(project_away, states, directions, 1.5, joint=True),
        }
        difference = (ways["gnomon"]() - ways["token by token"]()).abs().max()
        seconds = take_turns(ways, rounds=5)
        found[f"{images} images, {words} words"] = {
            "largest_difference": float(difference),
            "cpu_seconds": seconds,
            "times_faster": seconds["token by token"] / seconds["gnomon"],
        }
    return found


SECTIONS: dict[str, Callable[[], Numbers]] = {"lens": reading, "edit": editing}


if __name__ == "__main__":
    MODEL = {"class": "LlavaForConditionalGeneration", **SIZE, "vocabulary": VOCABULARY, "weights": "random"}
    sys.exit(main("vl-lens", __doc__, SECTIONS, model=MODEL))
