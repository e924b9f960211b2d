"""What can be stored of a point, one file or folder each, behind one protocol."""
