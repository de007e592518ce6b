"""tdtrack: teach any detector to track, from plain detection data."""
