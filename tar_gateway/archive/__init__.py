"""An archive: its members, and the place of each byte. Pure: no request, no source."""
