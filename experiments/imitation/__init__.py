"""Noise of a web search with known truth, from real and drawn images."""
