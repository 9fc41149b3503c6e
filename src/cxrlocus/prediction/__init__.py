"""From a localizer to a predictions folder, and from its maps to boxes."""
