"""The walk over all classes of the installed transformers: each is made small, traced, and checked against the library."""

import signal
from contextlib import contextmanager

import torch

from fixtures_architectures import small_model
from fixtures_seeing import check_seer, small_seer
from fixtures_seeing import classes as image_text_classes
from gnomon.core.models import ModelHandle
from gnomon.core.models.architectures.sight import seen_sites
from gnomon.core.models.architectures.sites import traced_sites
from gnomon.core.models.images import samples
from gnomon.errors import ModelMismatch

IDS = torch.tensor([[5, 61, 17, 98, 9, 33]])
LONGEST_S = 15
OUTCOMES = ("all", "some", "none", "wrong", "not made")
ALLOWED = (  # what a model does not have is no site left out
    "a block has no",
    "no token stands for it",
    "no list of modules hands one stream of image patches on",
)


class Tokens:
    """A tokenizer of words that are numbers."""

    pad_token_id = eos_token_id = 0

    def __call__(self, texts, **_):
        return {"input_ids": [[int(word) for word in text.split()] for text in texts]}


def states_of(model, kind, sites, at):
    """Hidden states at sites, by hooks of the handle."""
    handle = ModelHandle(model, Tokens())
    handle.kind, handle.sites = kind, sites
    return handle, handle.capture(handle.pad(IDS.tolist()), at)


def hooks_of(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def check(model, sites):
    """Compare what was found with the library: its hidden states, the sums that the sites promise, and its logits."""
    n = len(sites.top.blocks)
    with torch.no_grad():
        output = model(input_ids=IDS, output_hidden_states=True, use_cache=False)
    n_hooks = hooks_of(model)  # the library has placed its own
    handle, seen = states_of(model, "causal", sites, list(sites))
    library = output.hidden_states
    if library is not None and len(library) == n + 1 and library[0].shape == seen["embed"].shape:
        ours = [seen["embed"], *(seen[f"{i}.resid_post"] for i in range(n))]
        if torch.equal(ours[1], library[0]):  # Mamba's begin after the first block
            ours = ours[1:]
        for i, state in enumerate(ours[:n]):
            assert torch.equal(state, library[i]), i
    if not sites.top.head_is_unknown:
        lens = handle.lens(seen[f"{n - 1}.resid_post"])
        torch.testing.assert_close(
            lens, output.logits, rtol=2e-3, atol=2e-3 * float(output.logits.abs().mean())
        )
    # Taking away what a site adds must change what follows: it is a part of the stream and no copy of it.
    for name in ("attn_out", "mlp_out"):
        if f"0.{name}" in sites:
            with handle.edit({f"0.{name}": lambda hidden, step: torch.zeros_like(hidden)}):
                without = handle.capture(handle.pad(IDS.tolist()), ["0.resid_post"])["0.resid_post"]
            assert not torch.allclose(without, seen["0.resid_post"], rtol=1e-3), name
    assert hooks_of(model) == n_hooks
    return seen


def classes(row):
    """model_type -> class, of a row of the table."""
    from transformers.models.auto import modeling_auto as auto

    if row == "image and text":
        return image_text_classes()
    if row == "sequence to sequence":
        return dict(auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES)
    if row == "causal":
        causal = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        return {kind: name for kind, name in causal.items() if "ConditionalGeneration" not in name}
    names = {k: auto.MODEL_MAPPING_NAMES.get(k) for k in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES}
    return {k: n if isinstance(n, str) else n[0] for k, n in names.items() if n is not None}


ROWS = ("causal", "sequence to sequence", "encoder", "image and text")


def walk(row, only=None):
    """Outcome -> classes of a row of the table, by their model_type; those that are wrong or not made with the reason."""
    of = {outcome: [] for outcome in OUTCOMES}
    for kind, name in sorted(classes(row).items()):
        if only is None or kind in only:
            outcome, why = _outcome(row, kind, name)
            of[outcome].append(f"{kind}: {why}" if why else kind)
    return of


@contextmanager
def _limited():
    def late(*_):
        raise TimeoutError("it took too long")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LONGEST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _outcome(row, kind, name):
    is_decoder = row == "causal"
    try:
        with _limited():
            if row == "image and text":
                model, processor = small_seer(kind, name)
            else:
                model = small_model(kind, name, is_decoder=is_decoder)
                more = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
                with torch.no_grad():
                    model(input_ids=IDS, **more, **({"use_cache": False} if is_decoder else {}))
    except Exception as error:  # whatever a config with small sizes may raise is no matter of ours
        return "not made", " ".join(str(error).split())[:80] or type(error).__name__
    try:
        sites = (
            seen_sites(model, *samples(model, processor)) if row == "image and text" else traced_sites(model)
        )
    except ModelMismatch:
        return "none", ""
    try:
        if row == "image and text":
            handle = ModelHandle(model, processor)
            handle.sites = sites
            check_seer(handle)
        elif row == "causal":
            check(model, sites)
    except (AssertionError, RuntimeError, TypeError) as error:
        return "wrong", f"{error}"[:200]
    left_out = [reason for reason in sites.missing if not any(words in reason for words in ALLOWED)]
    return ("some" if left_out or (sites.top.head_is_unknown and row != "encoder") else "all"), ""
