"""Sanity: whether a run's maps depend on what it learned, see a lesion, and look past a marker."""

from cxrlocus.study.sanity.run import SanityOptions, check_sanity

__all__ = ["SanityOptions", "check_sanity"]
