"""The diary's routes, one file for each noun."""
