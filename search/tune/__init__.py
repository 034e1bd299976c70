"""Ray Tune, as every search here uses it."""
