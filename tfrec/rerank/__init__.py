"""Item utility, diversity and calibration of a ranked list."""
