"""The report people forward: page, Markdown, JSON, plots."""
