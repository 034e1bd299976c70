"""Where images, rows and labels come from, and how they become what a network takes."""
