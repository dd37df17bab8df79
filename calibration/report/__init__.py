"""What a calibration found, as JSON and as a picture."""
