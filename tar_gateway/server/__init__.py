"""gunicorn: the only room that knows it."""
