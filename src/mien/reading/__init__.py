"""Pixels to readings: decode, find faces, recognise. Knows nothing of data sets or torch."""
