"""Detectors of errors: trained, measured, transferred and used."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "choose_layer": "evaluation",
        "decisions": "evaluation",
        "over_seeds": "evaluation",
        "fit_cells": "grid",
        "LinearProbe": "probe",
        "fit_along": "probe",
        "fit_probe": "probe",
    },
)
