"""Additive attention: the model's width, one that is narrower and odd."""

CASES = [{"kind": "additive"}, {"kind": "additive", "hidden": 13}]
