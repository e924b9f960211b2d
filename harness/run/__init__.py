"""Run a sweep: the loop, the executor, the progress display."""
