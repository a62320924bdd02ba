"""The command line: the only room that knows click, and the only one that talks to a person."""
