"""The pictures of the documentation, taken of the product itself: `python -m tools.pictures`."""
