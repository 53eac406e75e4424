"""Measurements of this server beside the reference server, as ratios taken in one run. No tests."""
