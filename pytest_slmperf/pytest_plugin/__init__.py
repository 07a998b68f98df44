"""pytest's side: options, marker, fixtures, hooks."""
