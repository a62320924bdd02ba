"""A bucket: only what is composed here is signed, and nothing of a caller is in it."""
