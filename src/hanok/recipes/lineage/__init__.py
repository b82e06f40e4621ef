"""The lineage race: every kind of language model from n-grams to hybrids on one corpus, one tokenizer, one budget."""
