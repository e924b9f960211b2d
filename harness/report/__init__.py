"""What people look at: the terminal table, summary.csv, comparison.csv, tokens pages and compare.html.

Everything is read from the store, so a report needs no model and can be written again at any time.
"""

from harness.report.write import print_sweep, write, write_sweep_reports

__all__ = ["print_sweep", "write", "write_sweep_reports"]
