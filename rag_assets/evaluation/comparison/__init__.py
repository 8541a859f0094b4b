"""Ways to cut a collection, compared on its golden questions; nothing is stored."""
