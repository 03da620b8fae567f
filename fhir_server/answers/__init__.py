"""Answers: errors, headers, Bundles joined from stored bytes, pages, subsets."""
