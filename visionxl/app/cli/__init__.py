"""The command line: options that commands share, the commands and their help, what each does, and
how an error becomes one sentence.
"""
