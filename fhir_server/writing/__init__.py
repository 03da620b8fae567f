"""What a write goes through: reading, checking, conditions, stamping."""
