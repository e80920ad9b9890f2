"""The node daemon of dispy, and the runner of its jobs."""
