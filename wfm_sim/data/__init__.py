"""Robot episodes: one type, readers for the layouts that exist, one writer."""
