"""The golden set itself: is it sound, is it large enough, and where do more questions come from."""
