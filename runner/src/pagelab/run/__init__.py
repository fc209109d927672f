"""From a plan to measured trials."""
