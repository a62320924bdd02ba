"""How servers list directories: bytes in, names out. Pure, and every name is hostile input."""
