"""`structnet queue`: experiments by priority, in a store that survives whoever runs them."""
