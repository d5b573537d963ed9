"""Results for people: one context for each result, rendered as Markdown and as HTML."""
