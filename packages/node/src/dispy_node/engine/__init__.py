"""The node without I/O: events go in, effects come out, time is an argument."""
