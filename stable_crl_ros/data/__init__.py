"""Episodes: journal, sealed Zarr groups, training cache and goal sampling."""
