"""Compression of finished models: fewer bits per weight, and a report of what that costs."""
