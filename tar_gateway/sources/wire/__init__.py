"""How an HTTP server is asked and answers: connections, patience, health. It knows no member."""
