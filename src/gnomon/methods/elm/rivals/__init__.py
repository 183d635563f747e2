"""The baselines (RMU, RepNoise, WHP, gradient ascent, GradDiff, NPO, SimNPO), trained on the same batches."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Constants": "arms",
        "Ascent": "likelihood",
        "NPO": "likelihood",
        "SimNPO": "likelihood",
        "WHP": "likelihood",
        "generic_labels": "likelihood",
        "last_maps": "representation",
        "npo_loss": "likelihood",
        "simnpo_loss": "likelihood",
        "reinforce": "likelihood",
        "text_logprobs": "likelihood",
        "RMU": "representation",
        "down_projection": "representation",
        "gaussian_mmd": "representation",
        "steering_layer": "representation",
    },
)
