"""Pictures, in matplotlib."""
