"""Inference engines whose processes the lab starts and watches."""
