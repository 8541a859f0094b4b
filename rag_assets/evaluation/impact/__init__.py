"""What changed between two generations, or since the previous evaluation, question by question."""
