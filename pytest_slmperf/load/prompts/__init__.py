"""Prompts: token lengths, segments and text, as functions of a seed."""
