"""The commands, one module a group; what they need is imported when they run."""
