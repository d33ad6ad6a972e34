"""Calibration: where the images come from, how they become feeds, and the statistics one run over them answers."""
