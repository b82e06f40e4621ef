"""Several servers of one model behind one port: each an ordinary `hanok serve` in a process of its own."""
