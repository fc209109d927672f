"""Ways to leave the model less memory than it needs."""
