"""Public log formats, one file each, behind one interface."""
