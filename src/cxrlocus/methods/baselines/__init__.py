"""Baselines: gradient maps of any trained run, and controls that look at no film."""
