"""Read an image's tokens as words, and erase one, on a tiny untrained LLaVA: `python examples/vl-lens.py [MODEL FOLDER]`."""

import sys

import torch
from PIL import Image

from gnomon.core.models import ModelHandle
from gnomon.core.models.tiny import tiny_llava, whole_words
from gnomon.core.rng import Rng
from gnomon.methods.vl_lens.erasure.erase import erase
from gnomon.methods.vl_lens.lens.lens import lens

if len(sys.argv) > 1:
    handle, image = ModelHandle.load(sys.argv[1], kind="vlm"), Image.new("RGB", (336, 336), "orange")
else:
    torch.set_num_threads(1)
    words = whole_words(["describe", "dog", "cat", "cup"])
    handle, image = ModelHandle(*tiny_llava(words, generator=Rng(0))), Image.new("RGB", (48, 48), "orange")
before = lens(handle, [image], "describe", ["dog", "cat", "cup"])
with erase(handle, ["dog"], text_layer=0, edit_layer=1, alpha=1.0):
    after = lens(handle, [image], "describe", ["dog", "cat", "cup"])
for w, word in enumerate(before.words):
    print(
        f"{word}: internal confidence {before.confidence[0, w]:.3f}, with dog erased {after.confidence[0, w]:.3f}"
    )
print("patch 0, last layer:", before.top_tokens(0, before.layers[-1], 0, k=3))
