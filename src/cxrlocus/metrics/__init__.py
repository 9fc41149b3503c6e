"""Measures, in numpy and scipy: pure functions of arrays; an undefined measure is NaN."""
