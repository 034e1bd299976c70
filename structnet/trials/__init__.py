"""What one trial of a search does: grids of networks in cohorts, rescues, rivals, starts. None of it needs Ray."""
