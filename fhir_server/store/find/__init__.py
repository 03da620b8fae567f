"""A parsed search carried out on MongoDB; `page.find` is the way in."""
