"""What may be said, what makes sense together, and the frozen Point it comes down to."""
