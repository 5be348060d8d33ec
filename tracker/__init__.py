"""From ultrasound frames to tracked, measured vessels."""
