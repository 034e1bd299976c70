"""From the smallest seed that learns to larger networks."""
