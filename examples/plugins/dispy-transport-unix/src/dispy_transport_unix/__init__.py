"""Unix sockets as connections for dispy."""
