"""Readers of release files: each gives the rows of a packed code system, or says what is wrong with the file."""
