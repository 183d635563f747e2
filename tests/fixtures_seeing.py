"""A small model and a small processor of every image-text class of the installed transformers, each of its real class.

Sizes are set small by what they are called; what a class needs beside that stands in `OWN`.
"""

import inspect
import re
from contextlib import suppress
from functools import cache

import numpy as np
import torch
from PIL import Image

from fixtures_architectures import shrink

SIDE, PATCH = 32, 8
NAMED = {
    "image_token": "<image>",
    "context_image_token": "<image>",
    "boi_token": "<boi>",
    "eoi_token": "<eoi>",
    "start_image_token": "<boi>",
    "end_image_token": "<eoi>",
    "image_start_token": "<boi>",
    "image_end_token": "<eoi>",
    "vision_start_token": "<boi>",
    "vision_end_token": "<eoi>",
    "image_break_token": "<break>",
    "img_line_break_token": "<break>",
    "image_wrapper_token": "<wrap>",
    "image_boundary_token": "<fake_token_around_image>",
    "eof_token": "<eof>",
    "eol_token": "<eol>",
    "video_token": "<video>",
    "video_start_token": "<bov>",
    "video_end_token": "<eov>",
    "audio_token": "<audio>",
    "boa_token": "<boa>",
    "eoa_token": "<eoa>",
}
SAME = {  # classes without a processor of their own in the library's table -> whose they take
    "cosmos3_omni": "Qwen3VLProcessor",
    "glm_ocr": "Glm46VProcessor",
    "glmga": "Glm46VProcessor",
    "mistral3": "LightOnOcrProcessor",
    "mistral_large4": "LightOnOcrProcessor",
    "kosmos-2": "Kosmos2Processor",
    "kosmos-2.5": "Kosmos2_5Processor",
}
PIXELS = {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}


def classes():
    """model_type -> class, of every image-text model that the installed transformers has."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    return dict(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)


def picture(seed=0, width=40, height=30):
    """Noise of any shape."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


class NotMade(Exception):
    """No small model or processor of a class can be made here."""


@cache
def _words():
    from gnomon.core.models import train_bpe

    return train_bpe(["a cat sat on the mat while a dog ran in the park and a bird sang"], 300)


def small_tokenizer(processor_class):
    """A byte-level tokenizer with every special token that a processor class names in its source."""
    from transformers import PreTrainedTokenizerFast

    source = inspect.getsource(inspect.getmodule(processor_class))
    literal = re.findall(r"""["'](<[^"'\s{}]{1,40}>|\[[A-Z_]{2,20}\])["']""", source)
    grid = [f"<row_{i}_col_{j}>" for i in range(1, 5) for j in range(1, 5)] if "<row_" in source else []
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_words().backend_tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens=dict(NAMED),
    )
    tokenizer.add_tokens(list(dict.fromkeys([*literal, *grid])), special_tokens=True)
    return tokenizer


VOCAB = 400
SMALL = {  # of configs that see, what a setting is called -> its small value
    r"image_size": SIDE,
    r"patch_size": PATCH,
    r"depth|num_layers|layers": 4,
    r"mrope_section": [2, 1, 1],
    r"fullatt_block_indexes": [1, 3],
    r"deepstack_visual_indexes": [0, 1, 2],
    r"image_grid_pinpoints": [[SIDE * a, SIDE * b] for a in (1, 2, 3) for b in (1, 2, 3) if a * b <= 4],
    r"mm_tokens_per_image": 4,
    r"projection_dim": 32,
}


def small_config(kind):
    """The config of a class with every size set small."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = shrink(CONFIG_MAPPING[kind]())
    _fit(config, OWN.get(kind, {}), "")
    return config


def _fit(config, own, path):
    for name, value in config.to_dict().items():
        try:
            nested = getattr(config, name, None)
        except (AttributeError, ValueError, RuntimeError, KeyError):  # differs from layer to layer
            continue
        if hasattr(nested, "to_dict"):
            _fit(nested, own, f"{path}{name}.")
            continue
        if name == "rope_parameters" and isinstance(nested, dict) and "partial_rotary_factor" not in nested:
            nested["mrope_section"] = SMALL["mrope_section"]
        elif name == "rope_parameters" and isinstance(nested, dict):
            nested["mrope_section"] = [1, 1, 0]
        small = VOCAB if name.startswith("vocab_size") else next(
            (v for pattern, v in SMALL.items() if re.fullmatch(pattern, name)), None
        )  # fmt: skip
        if small is not None and value is not None:
            if isinstance(value, (list, tuple)) and isinstance(small, int):
                small = [small] * len(value)
            _set(config, name, small)
    for name, value in own.items():
        head, _, last = name.rpartition(".")
        if head == path.rstrip("."):
            _set(config, last, value)


def _set(config, name, value):
    with suppress(AttributeError, ValueError):  # computed from others
        setattr(config, name, value)


def small_image_processor(name, own):
    """An image processor of a class by its name, its sizes set small."""
    import transformers
    from transformers.utils.import_utils import is_torchvision_available

    if not hasattr(transformers, name):
        raise NotMade(f"no {name}")
    made = getattr(transformers, name)
    if "PIL" not in str(made.__mro__) and not is_torchvision_available() and not name.endswith("Pil"):
        raise NotMade("its image processor needs torchvision")
    size, settings = dict(getattr(made, "size", None) or {}), {}
    if {"height", "width"} <= set(size):
        settings["size"] = {"height": SIDE, "width": SIDE}
    elif {"shortest_edge", "longest_edge"} <= set(size):
        is_area = size["shortest_edge"] > 2000
        settings["size"] = PIXELS if is_area else {"shortest_edge": SIDE, "longest_edge": 2 * SIDE}
    elif size:
        settings["size"] = {key: SIDE if key == "shortest_edge" else 2 * SIDE for key in size}
    if getattr(made, "crop_size", None):
        settings["crop_size"] = {"height": SIDE, "width": SIDE}
    for key in ("max_image_size", "patch_size"):
        value, small = getattr(made, key, None), SIDE if key == "max_image_size" else PATCH
        if value is not None:
            settings[key] = dict.fromkeys(value, small) if isinstance(value, dict) else small
    if getattr(made, "image_grid_pinpoints", None):
        settings["image_grid_pinpoints"] = SMALL["image_grid_pinpoints"]
    return made(**settings | own)


def small_processor(kind, config):
    """The processor of a class, for models of its small config."""
    import transformers
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES as IMAGES
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES as PROCESSORS

    from gnomon.core.models.images import without_videos

    name = SAME.get(kind) or PROCESSORS.get(kind)
    if name is None or not hasattr(transformers, name):
        raise NotMade("the library names no processor")
    made = getattr(transformers, name)
    if name == "SmolVLMProcessor":  # writes the numbers of a video's frames in words
        inspect.getmodule(made).num2words = str
    sees = IMAGES.get(kind)
    if sees is None:  # as another type of model with the same processor
        sees = next((IMAGES[k] for k, n in PROCESSORS.items() if n == name and k in IMAGES), None)
    if sees is None or "pil" not in sees:
        raise NotMade("its image processor needs torchvision")
    own = OWN.get(kind, {})
    image = small_image_processor(sees["pil"], own.get("image_processor", {}))
    parts = made.get_attributes()
    if "video_processor" in {*parts, *inspect.signature(made.__init__).parameters}:
        made = without_videos(made)
    arguments = {"image_processor": image, "tokenizer": small_tokenizer(made)}
    takes = inspect.signature(made.__init__).parameters
    if "video_processor" in takes:
        arguments["video_processor"] = None
    if "feature_extractor" in takes:
        from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING_NAMES as EARS

        if kind not in EARS or not hasattr(transformers, EARS[kind]):
            raise NotMade("its processor hears, and no small extractor is known")
        arguments["feature_extractor"] = getattr(transformers, EARS[kind])()
    if "qformer_tokenizer" in takes:
        from fixtures_vlm import bert

        arguments["qformer_tokenizer"] = bert()
    for key, value in (
        ("patch_size", PATCH),
        ("vision_feature_select_strategy", "default"),
        ("num_additional_image_tokens", 1),
        ("num_image_tokens", 16),
        *own.get("processor", {}).items(),
    ):
        if key in takes:
            arguments[key] = value
    try:
        processor = made(**arguments)
    except (TypeError, ValueError, AttributeError, KeyError, ImportError) as error:
        raise NotMade(f"processor: {error}") from error
    return processor


OWN = {
    "llava": {"vision_feature_select_strategy": "default", "vision_feature_layer": -2},
    "vipllava": {"vision_feature_layers": [-1, -2], "vision_feature_layer": -1},
    "llava_onevision": {"processor": {"vision_feature_select_strategy": "full"}},
    "aria": {
        "vision_config.patch_size": 98,
        "vision_config.image_size": 980,
        "projector_patch_to_query_dict": {100: 4, 25: 4},
        "processor": {"size_conversion": {490: 4, 980: 4}},
    },
    "deepseek_vl": {"image_processor": {"min_size": 1}},
    "janus": {"image_processor": {"min_size": 1}},
    "aya_vision": {
        "text_config.max_position_embeddings": 512,
        "processor": {"img_size": SIDE, "downsample_factor": 2},
    },
    "granite_docling": {"processor": {"image_seq_len": 1}},
    "mllama": {
        "vision_config.intermediate_layers_indices": [1, 2],
        "vision_config.vision_output_dim": 96,
        "vision_config.num_global_layers": 2,
        "text_config.cross_attention_layers": [1],
    },
}
MADE_BEFORE = {  # classes whose parts hang together by more than sizes -> their maker in fixtures_vlm
    "blip-2": "blip2",
    "idefics2": "idefics2",
    "instructblip": "instructblip",
    "paligemma": "paligemma",
}
FORM = {"hunyuan_vl": "<boi>{sign}<eoi> a cat", "florence2": "a cat"}


def small_seer(kind, class_name):
    """A model of a class with its processor, small; its image token is the one that the processor writes most often.

    Raises:
        NotMade: the class does not bear small sizes, or its processor cannot be made here.
    """
    import transformers

    torch.manual_seed(0)
    if kind in MADE_BEFORE:
        from fixtures_vlm import MAKERS

        model, processor = MAKERS[MADE_BEFORE[kind]]()
        _spread(model)
        return model.eval(), processor
    config = small_config(kind)
    processor = small_processor(kind, config)
    model = getattr(transformers, class_name)(config)
    _spread(model)
    model.eval()
    for _ in range(3):
        inputs = shown(processor)
        ids, counts = inputs["input_ids"].unique(return_counts=True)
        _name_token(config, int(ids[counts.argmax()]))
        try:
            with torch.no_grad():
                model(**inputs)
            return model, processor
        except ValueError as error:
            numbers = re.search(r"tokens:? (\d+),? features:? (\d+)", str(error))
            if numbers is None:
                raise
            _set_length(processor, *map(int, numbers.groups()))
    raise NotMade("no number of image tokens fits the model")


def _spread(model):
    """Weights that differ, so that no two parts agree by chance."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)


def _name_token(config, token):
    for part in {id(c): c for c in (config, config.get_text_config())}.values():
        for key in ("image_token_id", "image_token_index"):
            if key in part.to_dict():
                _set(part, key, token)


def _set_length(processor, tokens, features):
    """Let the processor write as many image tokens as the model has features, which some messages count in numbers."""
    features = features // 32 if features >= tokens or features % 32 == 0 else features
    for part in (processor, processor.image_processor):
        for name, value in list(vars(part).items()):
            if re.search(r"seq_len|num_image_tokens", name) and isinstance(value, int):
                setattr(part, name, max(value * features // tokens, 1))
            if name == "full_image_sequence":
                sign = processor.tokenizer.image_token
                parts = value.split(sign)
                setattr(part, name, sign.join([parts[0]] + [""] * (features - 1) + [parts[-1]]))


def shown(processor, image=None):
    """What a processor makes of a prompt with one image."""
    sign = str(getattr(processor, "image_token", "<image>"))
    from gnomon.core.models.images import processed

    return processed(processor, f"{sign} a cat", [image or picture()])


def check_seer(handle):
    """Compare what was found with the library: its hidden states, logits, and the vectors at the image tokens.

    Raises:
        AssertionError: a site is not what its name says.
    """
    model, sites = handle.model, handle.sites
    prompt = handle.prompt("a cat")
    batch = handle.encode([prompt], images=[picture(1)])
    with torch.no_grad():
        output = model(**batch.inputs("vlm"), output_hidden_states=True, use_cache=False)
    n = len(sites.top.blocks)
    text = [site for site in sites if not site.startswith("vision") and site != "projector"]
    seen = handle.capture(batch, text)
    states = getattr(output, "language_model_outputs", output).hidden_states
    if states is not None and len(states) == n + 1:
        for i in range(n - 1):
            assert torch.equal(seen[f"{i}.resid_post"], states[i + 1]), f"{i}.resid_post"
    if not sites.top.head_is_unknown:
        lens = handle.lens(seen[f"{n - 1}.resid_post"])
        close(lens, output.logits, "the lens of the last block")
    embedded = model.get_input_embeddings()(batch.input_ids)
    is_plain = torch.allclose(embedded[~batch.image_mask], seen["embed"][~batch.image_mask], rtol=1e-3)
    if "projector" in sites and is_plain:  # some add positions before the first block
        rows = handle.capture(batch, ["projector"])["projector"]
        rows, vectors = rows.reshape(-1, rows.shape[-1]), seen["embed"][batch.image_mask]
        nearest = torch.cdist(vectors, rows, p=float("inf")).amin(1) / vectors.abs().mean()
        # A learned token ends the lines of some tiled images.
        assert (nearest < 1e-3).float().mean() > 0.5, "projector"
    cut = [f"{i}.{name}" for i in range(n) for name in ("attn_out", "mlp_out") if f"{i}.{name}" in sites]
    for site in cut:
        with handle.edit({site: lambda hidden, step: torch.zeros_like(hidden)}):
            post = site.partition(".")[0] + ".resid_post"
            without = handle.capture(batch, [post])[post]
        assert not torch.allclose(without, seen[post], rtol=1e-3), site
        parts = [
            seen.get(f"{site.partition('.')[0]}.{name}") for name in ("resid_pre", "attn_out", "mlp_out")
        ]
        if f"{site.partition('.')[0]}.resid_mid" in sites and all(p is not None for p in parts):
            close(sum(parts), seen[post], f"the sum of what {site} is a part of")
    if "vision.0.resid_post" in sites and batch.image_mask.any():
        with handle.edit({"vision.0.resid_post": lambda hidden, step: hidden * 0.5 + 1}):
            other = handle.capture(batch, ["embed"])["embed"]
        changed = (other - seen["embed"]).abs().amax(-1) > 0
        assert not changed[~batch.image_mask].any() and changed[batch.image_mask].any(), "vision"
    if not sites.sees.needs_image:
        alone = handle.encode(["a cat sat"])
        last = f"{n - 1}.resid_post"
        close(
            handle.lens(handle.capture(alone, [last])[last]),
            handle.logits(alone),
            "the lens without an image",
        )


def close(a, b, what):
    a, b = a.float(), b.float()
    assert torch.allclose(a, b, rtol=2e-3, atol=2e-3 * float(b.abs().mean())), what


def written_alone(handle, prompt, image, n):
    """Greedy tokens of one prompt, the whole of it read anew for each."""
    (seen,) = handle.see([prompt], [image])
    tokens = []
    for _ in range(n):
        with torch.no_grad():
            batch = handle.gather([seen.longer(tokens)])
            logits = handle.model(**batch.inputs("vlm"), use_cache=False).logits[0, -1]
        tokens.append(int(logits.argmax()))
    return tokens


def check_writing(handle):
    """Two prompts of unequal length with an image each, side by side, go on as each would alone."""
    from gnomon.core.models import GenConfig
    from gnomon.core.rng import Rng

    prompts = [handle.prompt("a cat"), handle.prompt("the dog ran in the park and a bird sang")]
    images = [picture(0), picture(1)]
    gen = GenConfig(max_new_tokens=4, temperature=0)
    done = handle.generate(prompts, gen, generator=Rng(0), images=images)
    for (completion,), prompt, image in zip(done, prompts, images, strict=True):
        tokens = list(completion.token_ids)
        assert tokens == written_alone(handle, prompt, image, len(tokens)), "generate"
