"""A language model as judge, through ragas: its calls, budgets and kept replies."""
