"""Figures as Plotly JSON, one family per file; nothing here imports Plotly."""
