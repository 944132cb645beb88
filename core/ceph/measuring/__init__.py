"""Measurements of points: angles, distances and ratios of the usual analyses, each with an interval, and a tracing."""
