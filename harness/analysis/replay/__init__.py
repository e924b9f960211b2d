"""What stored samples would be under another decoding strategy, from their recorded steps alone.

There is no model: of each step the likeliest tokens are known, the chosen one, and the mass of the rest. That
decides some choices and leaves others open. So every answer is yes, no or undecided, every number is an
interval unless it is exact, and only what is certain is claimed.
"""
