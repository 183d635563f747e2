"""Detectors of errors: trained, measured, transferred and used."""
