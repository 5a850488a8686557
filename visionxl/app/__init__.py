"""The application: clips of any length, files, and the command line."""
