"""The Python API: the commands as functions, their results as tables, texts and pages; `harness` has it."""
