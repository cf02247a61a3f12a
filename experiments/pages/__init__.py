"""Sections of an experiment's page: each turns what lies in the work folder into HTML."""
