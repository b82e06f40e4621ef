"""Floor 0: registry, configs, artifacts, stages, logs, random streams. No tensor maths here."""
