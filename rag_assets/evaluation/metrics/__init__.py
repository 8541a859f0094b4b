"""What is measured of one question, and how values become scores with intervals."""
