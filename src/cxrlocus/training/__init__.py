"""One readable training loop, its files, and what it runs on."""

from cxrlocus import runtime

runtime.guard_torchvision()
