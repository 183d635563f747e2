"""Looking inside vision-language models (arXiv 2410.02762): what image tokens say, what they do not support, and its removal."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "CLAIMS": "config",
        "Detection": "lens.detection",
        "Finding": "lens.detection",
        "LensResult": "lens.lens",
        "Mention": "captions.objects",
        "Reading": "lens.lens",
        "Rewritten": "erasure.mitigation",
        "Setting": "erasure.mitigation",
        "Spelling": "lens.words",
        "Vocabulary": "captions.objects",
        "Writing": "captions.captions",
        "chair": "captions.chair",
        "detect": "lens.detection",
        "mitigate": "erasure.mitigation",
        "project_away": "erasure.erase",
        "read_objects": "captions.chair",
        "rewrite": "erasure.mitigation",
        "word_vector": "lens.words",
    },
)
