"""Data: corpora and files in, token shards on disk, and streams of batches whose exact position can be saved."""
