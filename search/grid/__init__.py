"""Grids of networks trained in blocks, a cohort each: what hunt, ladder, rescue and bootstrap share."""
