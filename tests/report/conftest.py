"""The fixtures of this folder; they and their helpers live in drawn.py, a name that no other folder has."""

from drawn import entries, found, index, predictions

__all__ = ["entries", "found", "index", "predictions"]
