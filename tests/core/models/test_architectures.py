"""Models of any architecture: what a traced pass finds is what the library's own hidden states say, or it is left out and said."""

import pytest
import torch

from fixtures_architectures import small_model
from fixtures_walk import IDS, Tokens, check, walk
from gnomon.core.models import GenConfig, ModelHandle, generate
from gnomon.core.models.architectures.sites import traced_sites
from gnomon.core.rng import Rng
from gnomon.errors import ModelMismatch


class Words(Tokens):
    """The same with what generation needs."""

    all_special_ids = (0,)

    def decode(self, ids, **_):
        return " ".join(map(str, ids))

    def convert_ids_to_tokens(self, ids):
        return [str(i) for i in ids]

    def __len__(self):
        return 128


SEEN_ALONE = {
    # type -> (class, sites of the first block, whether input + attention + MLP = output)
    "falcon": ("FalconForCausalLM", "resid_pre attn_out mlp_out resid_post", True),
    "gptj": ("GPTJForCausalLM", "resid_pre attn_out mlp_out resid_post", True),
    "phi": ("PhiForCausalLM", "resid_pre attn_out mlp_out resid_post", True),
    "cohere": ("CohereForCausalLM", "resid_pre attn_out mlp_out resid_post", True),
    "bloom": ("BloomForCausalLM", "resid_pre attn_out resid_mid mlp_out resid_post", True),
    "mpt": ("MptForCausalLM", "resid_pre attn_out resid_mid mlp_out resid_post", True),
    "mixtral": ("MixtralForCausalLM", "resid_pre attn_out resid_mid mlp_out resid_post", True),
    "gpt_oss": ("GptOssForCausalLM", "resid_pre attn_out resid_mid mlp_out resid_post", True),
    "deepseek_v3": ("DeepseekV3ForCausalLM", "resid_pre attn_out resid_mid mlp_out resid_post", True),
    "llama4_text": ("Llama4ForCausalLM", "resid_pre attn_out resid_mid mlp_out resid_post", True),
    "qwen3_next": ("Qwen3NextForCausalLM", "resid_pre attn_out resid_mid mlp_out resid_post", True),
    "smollm3": ("SmolLM3ForCausalLM", "resid_pre attn_out resid_mid mlp_out resid_post", True),
    "olmo2": ("Olmo2ForCausalLM", "resid_pre attn_out resid_mid mlp_out resid_post", True),
    "jamba": ("JambaForCausalLM", "resid_pre attn_out resid_mid mlp_out resid_post", True),
    "lfm2": ("Lfm2ForCausalLM", "resid_pre attn_out resid_mid mlp_out resid_post", True),
    "mamba": ("MambaForCausalLM", "resid_pre attn_out resid_post", True),
    "roberta": ("RobertaForCausalLM", "resid_pre attn_out resid_mid mlp_out resid_post", False),
    "granite": ("GraniteForCausalLM", "resid_pre attn_out resid_mid mlp_out resid_post", True),
}


@pytest.mark.parametrize("kind", SEEN_ALONE)
def test_architectures_of_today(kind):
    class_name, names, adds_up = SEEN_ALONE[kind]
    model = small_model(kind, class_name)
    sites = traced_sites(model)
    assert [site.removeprefix("0.") for site in sites if site.startswith("0.")] == names.split()
    seen = check(model, sites)
    if adds_up:
        for i in range(len(sites.top.blocks)):
            total = seen[f"{i}.resid_pre"] + seen[f"{i}.attn_out"] + seen.get(f"{i}.mlp_out", 0)
            torch.testing.assert_close(total, seen[f"{i}.resid_post"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "class_name"), [("bart", "BartForConditionalGeneration"), ("mt5", "MT5ForConditionalGeneration")]
)
def test_models_with_an_encoder_and_a_decoder(kind, class_name):
    model = small_model(kind, class_name)
    sites = traced_sites(model)
    assert list(sites.stacks) == ["encoder", "decoder"]
    block = [site.removeprefix("decoder.1.") for site in sites if site.startswith("decoder.1.")]
    assert block == ["resid_pre", "attn_out", "cross_out", "resid_mid", "mlp_out", "resid_post"]
    handle = ModelHandle(model, Tokens())
    handle.sites = sites
    batch = handle.encode(["5 61 17 98"], ["9 33 4"])
    seen = handle.capture(batch, ["decoder.3.resid_post", "encoder.2.resid_post", "decoder.2.resid_post"])
    with torch.no_grad():
        output = model(**batch.inputs("seq2seq"), output_hidden_states=True, use_cache=False)
    assert torch.equal(seen["encoder.2.resid_post"], output.encoder_hidden_states[3])
    assert torch.equal(seen["decoder.2.resid_post"], output.decoder_hidden_states[3])
    torch.testing.assert_close(handle.lens(seen["decoder.3.resid_post"]), output.logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "class_name"),
    [("bert", "BertModel"), ("distilbert", "DistilBertModel"), ("modernbert", "ModernBertModel")],
)
def test_encoders(kind, class_name):
    model = small_model(kind, class_name, is_decoder=False)
    sites = traced_sites(model)
    handle = ModelHandle(model, Tokens())
    handle.sites = sites
    seen = handle.capture(handle.pad(IDS.tolist()), [site for site in sites if site.endswith("resid_post")])
    with torch.no_grad():
        library = model(input_ids=IDS, output_hidden_states=True).hidden_states
    for i in range(3):
        assert torch.equal(seen[f"encoder.{i}.resid_post"], library[i + 1])


def test_the_same_sites_as_by_the_tables(checkpoint):
    """Where there is a table too, the traced pass must say the same."""
    from fixtures_models import CAUSAL
    from gnomon.core.models import load_model
    from gnomon.core.models.architectures.sites import find_sites

    for family in CAUSAL:
        model = load_model(checkpoint(family), device="cpu")
        by_table, by_trace = find_sites(model), traced_sites(model)
        assert set(by_trace) <= set(by_table), family
        for site, place in by_trace.items():
            if not site.endswith("resid_mid"):  # there the same stream is seen from either side
                assert (place.module, place.side) == (by_table[site].module, by_table[site].side), (
                    family,
                    site,
                )
        assert by_trace.top.root is by_table.top.root, family
        assert by_trace.top.final_norm is by_table.top.final_norm, family


def test_what_cannot_be_verified_is_left_out_and_said(caplog):
    model = small_model("granitemoeshared", "GraniteMoeSharedForCausalLM")
    sites = traced_sites(model)
    assert "0.mlp_out" not in sites and "0.resid_post" in sites
    assert "does not add up" in sites.missing[0] and "has not all sites" in caplog.text
    check(model, sites)


def test_a_model_without_a_stream_of_blocks_says_so_and_works_without_sites():
    model = small_model("xlm", "XLMWithLMHeadModel")
    handle = ModelHandle(model, Tokens())
    assert handle.logits(handle.pad(IDS.tolist())).shape == (1, 6, 128)
    with pytest.raises(
        ModelMismatch, match=r'type "xlm".*A traced pass did not find them: no list of modules'
    ):
        handle.sites  # noqa: B018


@pytest.mark.slow
def test_every_causal_class_that_is_installed():
    """Nine of ten load with their sites verified, nearly all of them with every site; no site of any lies."""
    of = walk("causal")
    assert not of["wrong"], of["wrong"]
    made = len(of["all"]) + len(of["some"]) + len(of["none"])
    assert made >= 145
    assert len(of["all"]) + len(of["some"]) >= 0.9 * made, of["none"]
    assert len(of["all"]) >= 0.85 * made, of["some"]


@pytest.mark.parametrize(
    ("kind", "class_name"),
    [
        ("mamba", "MambaForCausalLM"),
        ("jamba", "JambaForCausalLM"),
        ("lfm2", "Lfm2ForCausalLM"),
        ("qwen3_next", "Qwen3NextForCausalLM"),
        ("bloom", "BloomForCausalLM"),
        ("mixtral", "MixtralForCausalLM"),
        ("bart", "BartForCausalLM"),
        ("openai-gpt", "OpenAIGPTLMHeadModel"),
    ],
)
def test_prompts_of_unequal_length_go_on_as_each_would_alone(kind, class_name):
    """Recurrent and hybrid caches, models without positions, and such as count padding: all of them or one after another."""
    model = small_model(kind, class_name)
    prompts = [[5, 61, 17, 98, 9, 33], [7, 8], [44, 3, 9]]
    done = generate(model, Words(), prompts, GenConfig(max_new_tokens=5, temperature=0), generator=Rng(0))
    for prompt, (completion,) in zip(prompts, done, strict=True):
        ids = list(prompt)
        for _ in completion.token_ids:
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        assert ids[len(prompt) :] == list(completion.token_ids)


def test_a_model_that_reads_padding_is_not_given_any():
    model = small_model("bart", "BartForCausalLM")
    handle = ModelHandle(model, Tokens())
    with pytest.raises(ModelMismatch, match=r"reads a padded text otherwise.*one at a time"):
        handle.logits(handle.encode(["5 61 17", "9"]))
    assert handle.logits(handle.encode(["5 61", "9 17"])).shape == (2, 2, 128)
