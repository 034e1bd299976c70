"""Signatures of the commands."""
