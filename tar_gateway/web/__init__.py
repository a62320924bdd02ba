"""WSGI: the only room that calls start_response, and the only one that sees the client."""
