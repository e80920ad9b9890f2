"""What becomes of jobs whose node is lost: the policies stand in `dispy_faults.rerun`."""
