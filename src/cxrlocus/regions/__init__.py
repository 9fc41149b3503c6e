"""From maps to boxes, in numpy and OpenCV alone: pure functions and frozen rules, no I/O, no randomness, no logging."""
