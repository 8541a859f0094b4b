"""Vector stores: where the rows of a generation live and are searched."""
