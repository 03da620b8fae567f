"""Batch and transaction Bundles as a plan, and their entries as requests."""
