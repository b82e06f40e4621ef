"""Floor 1: pure tensor functions, with a plain reference beside each fast path."""
