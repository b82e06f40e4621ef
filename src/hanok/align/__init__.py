"""Alignment: preference learning and reinforcement learning as ordinary training on streams of another kind."""
