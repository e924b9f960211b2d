"""What is kept: records, the store on disk, metrics. Plain Python, NumPy and Arrow, no torch."""
