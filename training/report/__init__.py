"""Evaluations for people: Markdown tables, one HTML page with pictures, docs/accuracy.md."""
