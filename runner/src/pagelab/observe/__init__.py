"""Recorders that watch a trial without taking part in it."""
