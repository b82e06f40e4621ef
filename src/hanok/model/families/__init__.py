"""Families of published checkpoints: two tables each, for the config and for the weights, read in both directions."""

from hanok.core.registry import Registry
from hanok.model.families.table import Family

FAMILIES: Registry[Family] = Registry("family", __name__)
