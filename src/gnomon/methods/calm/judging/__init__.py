"""Judges and what they are asked: trials, prompts, judges of every kind, mitigations, the plan and the audit."""
