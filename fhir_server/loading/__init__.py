"""Loading files of resources into a database or through a running server."""
