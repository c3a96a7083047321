"""The physics-alignment benchmark: generating episodes, tracking objects in videos, and scoring predictions."""
