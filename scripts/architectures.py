"""Which model classes of the installed transformers load with verified sites: writes the table in docs/models.md.

python scripts/architectures.py

Every class is made small from its own config (see tests/fixtures_architectures.py), traced, and sorted by what was found.
"""

import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

BEGIN, END = "<!-- architectures: begin -->", "<!-- architectures: end -->"
LONGEST_S = 30


def _classes() -> dict[str, dict[str, str]]:
    from transformers.models.auto import modeling_auto as auto

    causal = {
        k: c for k, c in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items() if "ConditionalGeneration" not in c
    }
    encoders = {
        k: auto.MODEL_MAPPING_NAMES[k]
        for k in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
        if k in auto.MODEL_MAPPING_NAMES
    }
    encoders = {k: c if isinstance(c, str) else c[0] for k, c in encoders.items()}
    return {
        "causal": causal,
        "sequence to sequence": dict(auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
        "encoder": encoders,
    }


def _outcomes(classes: dict[str, str], *, is_decoder: bool) -> Iterator[tuple[str, str]]:
    from fixtures_architectures import small_model
    from gnomon.core.models.architectures.sites import traced_sites
    from gnomon.errors import ModelMismatch

    for kind, name in sorted(classes.items()):
        signal.alarm(LONGEST_S)
        try:
            model = small_model(kind, name, is_decoder=is_decoder)
            ids = torch.tensor([[5, 61, 17, 98]])
            more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
            model(ids, **more, **({"use_cache": False} if is_decoder else {}))
        except Exception:  # a config that does not bear small sizes, whatever it raises
            yield "not made", kind
            continue
        finally:
            signal.alarm(0)
        try:
            sites = traced_sites(model)
        except ModelMismatch:
            yield "none", kind
            continue
        left_out = [reason for reason in sites.missing if "a block has no" not in reason]
        yield ("some" if left_out else "all"), kind


def main() -> None:
    """Walk over all classes and write the table."""
    warnings.filterwarnings("ignore")
    import transformers

    transformers.logging.set_verbosity_error()
    signal.signal(signal.SIGALRM, _late)
    rows, names = [], []
    for kind, classes in _classes().items():
        outcomes = list(_outcomes(classes, is_decoder=kind == "causal"))
        of = {
            outcome: [name for result, name in outcomes if result == outcome]
            for outcome in ("all", "some", "none", "not made")
        }
        made = len(outcomes) - len(of["not made"])
        rows.append(
            f"| {kind} | {len(outcomes)} | {made} | {len(of['all'])} | {len(of['some'])} | {len(of['none'])} | "
            f"{(len(of['all']) + len(of['some'])) / made:.0%} |"
        )
        for outcome, words in (
            ("some", "some sites left out"),
            ("none", "no sites"),
            ("not made", "not tried (no small config)"),
        ):
            if of[outcome]:
                names.append(f"- {kind}, {words}: {', '.join(of[outcome])}.")
    table = [
        BEGIN,
        f"transformers {transformers.__version__}; written by `python scripts/architectures.py`.",
        "",
        "| kind | classes | made small | all sites | some | none | load with verified sites |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        *names,
        END,
    ]
    page = ROOT / "docs" / "models.md"
    text = page.read_text("utf-8")
    begin, end = text.index(BEGIN), text.index(END) + len(END)
    page.write_text(text[:begin] + "\n".join(table) + text[end:], "utf-8")


def _late(*_: object) -> None:
    raise TimeoutError


if __name__ == "__main__":
    main()
