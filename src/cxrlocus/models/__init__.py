"""Shared networks. Importing this package repairs torchvision, where that is needed, before timm asks for it."""

from cxrlocus import runtime

runtime.guard_torchvision()
