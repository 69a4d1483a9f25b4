"""One file a family of layouts: how to recognise it, its name table, its other rules."""
