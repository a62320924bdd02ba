"""HTTP and the WSGI environ as texts and bytes. Pure: no socket, no clock, no archive."""
