"""Floor 3: the one model class, its configuration, and its files."""
