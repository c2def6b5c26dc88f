"""Data sets and predictions to numbers. Knows nothing of torch."""
