"""A page to pick files from: a listing in, HTML out, and its form back to the shortest link."""
