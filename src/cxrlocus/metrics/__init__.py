"""Measures, in numpy alone: pure functions of arrays; an undefined measure is NaN."""
