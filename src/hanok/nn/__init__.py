"""Floor 2: the parts of a model, one file per technique."""
