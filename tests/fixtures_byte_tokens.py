"""Tokenizers that write most characters as byte tokens, made on the spot."""

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast


def byte_fallback(style):
    """A vocabulary of some words whose other characters are written as byte tokens, as those of Llama 2, Mistral and Gemma."""
    words = ["\u2581", "P", "a", "r", "i", "s", "x", "1", "2", ".", ":", "?", "Q", "A", "w", "h", "e"]
    merges = [
        ("a", "r"),
        ("i", "s"),
        ("P", "ar"),
        ("Par", "is"),
        ("\u2581", "Paris"),
        ("\u2581", "1"),
        ("\u2581", "Q"),
    ]
    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *words,
        *(a + b for a, b in merges),
    ]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    inner = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    spaces = normalizers.Replace(" ", "\u2581")
    decoded = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    if style == "gemma":
        inner.normalizer = spaces
    elif style == "llama":
        inner.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), spaces])
    else:
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    inner.decoder = decoders.Sequence(decoded if style == "gemma" else [*decoded, decoders.Strip(" ", 1, 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
