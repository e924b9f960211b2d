"""From points to jobs that are ready to run, and to the groups that share one loaded model."""
