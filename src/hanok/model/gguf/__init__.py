"""GGUF, the one-file format of llama.cpp: read with suspicion, written for the families that it can express."""
