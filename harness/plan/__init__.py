"""From points to jobs that are ready to run, and to the groups that share one loaded model.

Called as a function, `harness.plan(...)` returns what a sweep of these arguments would do (`api.calls.plan`).
"""
