"""The command's words, one file each."""
