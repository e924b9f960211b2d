"""Choosing one of several stored samples of a prompt, and what more samples are worth; without the model.

`selectors.py` chooses, `over_samples.py` asks what the choice is worth by the number of samples, and
`selected_points.py` makes the chosen samples a row of the comparison.
"""
