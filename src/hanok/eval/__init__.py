"""Evaluation: bits per byte beside honest baselines, and generation tasks with intervals and chance levels."""
