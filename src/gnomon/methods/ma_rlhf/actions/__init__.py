"""Macro actions: how an answer is cut into them, and how reward, value and credit are counted by them."""
