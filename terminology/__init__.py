"""What codes mean: code systems, value sets, concept maps; pure, with I/O passed in."""
