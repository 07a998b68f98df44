"""Add-ons in the same wheel that the core never imports."""
