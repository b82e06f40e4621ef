"""What serving a model will take, said before its weights are there: memory, and tokens per second."""
