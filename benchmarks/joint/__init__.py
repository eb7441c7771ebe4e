"""Joint planning beside one-by-one placement, and how its time grows."""
