"""Training on many processes: a mesh of ranks, and strategies that divide a plain model by its structure."""
