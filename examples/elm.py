"""What ELM trains a model towards: its own predictions, away from what an expert would say."""

import sys

from gnomon.core.models import ModelHandle, new_llama, train_bpe
from gnomon.core.rng import Rng
from gnomon.methods.elm import elm_target, read_personas
from gnomon.methods.elm.erasure import Reweighting

TEXT = "The potion is brewed from nettles, and the spell is said twice."

if len(sys.argv) > 1:
    handle = ModelHandle.load(sys.argv[1])
else:
    tokenizer = train_bpe([TEXT], vocab_size=300)
    handle = ModelHandle(new_llama(tokenizer, 64, 2, 4, 256, Rng(0)).eval(), tokenizer)
experts, novices = read_personas("magic").encode(handle.tokenizer)
ids = handle.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
for eta in (1.0, 10.0, 500.0):
    target = elm_target(handle.model, [ids], experts[:1], novices[:1], Reweighting(eta=eta))
    likeliest = target.index[0, -1, target.value[0, -1].argmax()]
    word = handle.tokenizer.decode([int(likeliest)])
    print(f"eta {eta:g}: {target.mean_support:.1f} tokens carry q; the last one should become {word!r}")
