"""The wire formats: what clients send and what they get back, field for field as the OpenAI clients know them."""
