"""The fleet's file: which databases there are, and where in the file each of them is told of."""
