"""What is stored: records, tables, files, addresses, locks. Plain Python, NumPy and Arrow, no torch."""
