"""Which node gets the next job: the policies stand in `dispy_allocation.placements`."""
